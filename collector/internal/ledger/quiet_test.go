package ledger

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/madeday"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// followedHost is what the ledger has of a made day's host.
type followedHost struct {
	*Host
	t    *testing.T
	rows []*Row
	next uint64 // all below it has come: the journal takes resends out
	rec  record.Record
}

func (f *followedHost) batch(b *madeday.Batch) {
	f.t.Helper()
	for _, l := range b.Lines {
		if l.Index < f.next {
			continue
		}
		f.next = l.Index + 1
		if err := f.rec.Parse(l.Raw); err != nil {
			f.t.Fatalf("%s: %v", l.Raw, err)
		}
		f.Record(&f.rec, 1, b.At.UnixMilli())
	}
}

// store has the store keep what came, and the collector start again.
func (f *followedHost) store(now int64, again bool) {
	f.t.Helper()
	f.rows = append(f.rows, f.Take(now)...)
	if !again {
		return
	}
	var err error
	if f.Host, err = Restore(f.Encode()); err != nil {
		f.t.Fatal(err)
	}
}

// wolves returns what an answer says of a host that is not good; "" where it is complete.
func (a *Answer) wolves() string {
	if a.State == Complete {
		return ""
	}
	text := fmt.Sprintf("%s %d", a.State, a.Lost)
	for _, x := range a.Intervals {
		if x.Cause.State() != Complete {
			text += fmt.Sprintf("\n\t%s %d from %s to %s", x.Cause, x.N, at(x.From), at(x.To))
		}
	}
	return text
}

// ledgerDay has the ledger follow a made day, and something be lost on it where lose is set.
func ledgerDay(t *testing.T, cfg madeday.Config, lose bool) (map[string]*followedHost, *madeday.Day, *madeday.Loss) {
	t.Helper()
	day, rnd := madeday.New(cfg), rand.New(rand.NewPCG(cfg.Seed, 99))
	hosts := map[string]*followedHost{}
	for _, h := range day.Hosts {
		hosts[h.Name] = &followedHost{Host: NewHost(), t: t}
	}
	feed := func(list []madeday.Batch) {
		for i := range list {
			hosts[list[i].Host.Name].batch(&list[i])
		}
	}
	var loss *madeday.Loss
	away := 0 // until which minute there is no collector
	for minute := 0; !day.Over(); minute++ {
		if rnd.IntN(200) == 0 {
			away = minute + rnd.IntN(50)
		}
		feed(day.Minute(minute >= away))
		if rnd.IntN(10) == 0 {
			for _, f := range hosts {
				f.store(day.Now().UnixMilli(), rnd.IntN(5) == 0)
			}
		}
		if lose && loss == nil && minute > cfg.Minutes/4 && minute > away {
			if h := day.Hosts[rnd.IntN(len(day.Hosts))]; day.Calm(h) {
				how := h.Losses()
				loss = day.Lose(h, how[rnd.IntN(len(how))])
			}
		}
	}
	feed(day.Settle())
	for _, f := range hosts {
		f.store(day.Now().UnixMilli(), false)
	}
	return hosts, day, loss
}

func quietConfig(seed uint64, minutes int, leaps bool) madeday.Config {
	return madeday.Config{Seed: seed, Begin: time.Date(2026, 11, 20, 17, 30, 0, 0, time.UTC), Hosts: 8, Minutes: minutes, Rate: 3, Leaps: leaps}
}

// quietRounds is how many days are made; the build tag soak has more.
var quietRounds = 40

// TestQuietDays has days of ordinary work judged: all of every host is complete, and so is every
// part of it.
func TestQuietDays(t *testing.T) {
	seed := need.Seed(t)
	for round := range need.Rounds(quietRounds, 3) {
		cfg := quietConfig(seed+uint64(round), 240+240*(round%6), round%3 == 1)
		hosts, day, _ := ledgerDay(t, cfg, false)
		now, rnd := day.Now().UnixMilli(), rand.New(rand.NewPCG(cfg.Seed, 7))
		for _, h := range day.Hosts {
			f := hosts[h.Name]
			ask := Question{Now: now}
			whole := Judge(h.Name, f.rows, f.Followed(), ask)
			for range 20 {
				if text := Judge(h.Name, f.rows, f.Followed(), ask).wolves(); text != "" {
					t.Errorf("AUDITFLEET_SEED=%d leaps %v minutes %d: %s, %s, asked %v: %s", cfg.Seed, cfg.Leaps, cfg.Minutes, h.Name, h.Kind, ask, text)
					break
				}
				ask.From = whole.From + rnd.Int64N(whole.To-whole.From)
				ask.To = ask.From + 1 + rnd.Int64N(whole.To-ask.From)
			}
		}
	}
}

// TestOneLossADay has one thing be lost on such a day: the answer names it, by its number, and
// nothing else.
func TestOneLossADay(t *testing.T) {
	seed := need.Seed(t)
	for round := range need.Rounds(quietRounds, 3) {
		cfg := quietConfig(seed+uint64(round), 300, round%3 == 1)
		hosts, day, loss := ledgerDay(t, cfg, true)
		if loss == nil {
			continue
		}
		for _, h := range day.Hosts {
			f := hosts[h.Name]
			a := Judge(h.Name, f.rows, f.Followed(), Question{Now: day.Now().UnixMilli()})
			if h != loss.Host {
				if text := a.wolves(); text != "" {
					t.Errorf("AUDITFLEET_SEED=%d: %s, %s: %s", cfg.Seed, h.Name, h.Kind, text)
				}
				continue
			}
			i := slices.IndexFunc(a.Causes, func(s Sum) bool { return s.Cause.String() == loss.Cause })
			if a.State != Lost || a.Lost != loss.N || i < 0 || a.Causes[i].N != loss.N {
				t.Errorf("AUDITFLEET_SEED=%d: %s, and the answer is: %s", cfg.Seed, loss, a.wolves())
			}
		}
	}
}
