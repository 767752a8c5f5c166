package server

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/alert"
	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/intake"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/render"
	"github.com/auditfleet/auditfleet/internal/madeday"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// quietDay is a made day that a collector takes in, by its intake, while its clock goes on with
// the day.
type quietDay struct {
	*watched
	day   *madeday.Day
	rnd   *rand.Rand
	conns map[string]intake.Source // by host, of its present connection
	peers map[string]netip.AddrPort
	next  map[string]uint64 // all of a host's lines below it have come
}

func makeQuietDay(t *testing.T, cfg madeday.Config) *quietDay {
	t.Helper()
	q := &quietDay{day: madeday.New(cfg), rnd: rand.New(rand.NewPCG(cfg.Seed, 5)), conns: map[string]intake.Source{}, peers: map[string]netip.AddrPort{}, next: map[string]uint64{}}
	q.watched = watch(t, func(c *Config) { c.Flush = journal.FlushNone }) // a sync a batch takes long
	q.mu.Lock()
	q.now = cfg.Begin
	q.mu.Unlock()
	return q
}

// connect begins a connection of a host's.
func (q *quietDay) connect(b *madeday.Batch) {
	i := slices.Index(q.day.Hosts, b.Host)
	if old, ok := q.peers[b.Host.Name]; ok {
		q.head.Connection(old, true)
	}
	peer := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i + 1)}), uint16(1024+b.Conn))
	s := journal.Sender{Addr: peer, Transport: event.TransportTCP}
	if b.Host.Kind == madeday.Stream {
		s.Verified, s.Transport = b.Host.Name, event.TransportGRPC
	}
	q.head.Connection(peer, false)
	q.peers[b.Host.Name], q.conns[b.Host.Name] = peer, q.intake.Connect(s)
}

// batch is what came, as the host's transport hands it on.
func (q *quietDay) batch(b *madeday.Batch) *intake.Batch {
	src, ok := q.conns[b.Host.Name]
	if b.First || !ok {
		q.connect(b)
		src = q.conns[b.Host.Name]
	}
	out := &intake.Batch{Batch: journal.Batch{Conn: src.Conn, Sender: src.Sender, Received: b.At, Managed: b.Host.Kind != madeday.Stream}}
	for i, l := range b.Lines {
		r := journal.Record{Raw: l.Raw}
		switch b.Host.Kind {
		case madeday.Stream:
			r.Seq = uint32(l.Index)
		case madeday.Clear, madeday.Plugin:
			r.Seq = journal.OwnNumbering | uint32(l.Index+1)
		case madeday.Stock:
			r.Seq = b.Seq + uint32(i)
		}
		out.Records = append(out.Records, r)
	}
	if b.Host.Kind == madeday.Stream {
		binary.BigEndian.PutUint64(out.Span.Stream[:], uint64(len(b.Host.Name))<<32|uint64(b.Host.Name[len(b.Host.Name)-1]))
		// What lies between is not to come.
		out.Span.From, out.Span.To = min(b.Lines[0].Index, q.next[b.Host.Name]), b.Lines[len(b.Lines)-1].Index+1
	}
	return out
}

// take has the collector take in what came by a time, and look at its alerts.
func (q *quietDay) take(list []madeday.Batch, at time.Time) {
	q.t.Helper()
	q.mu.Lock()
	q.now = at
	q.mu.Unlock()
	done := make(chan error, len(list))
	for i := range list {
		b := &list[i]
		batch := q.batch(b)
		for _, l := range b.Lines {
			if l.Index >= q.next[b.Host.Name] { // else it comes again
				q.next[b.Host.Name] = l.Index + 1
				q.put++
			}
		}
		if err := q.intake.Submit(q.t.Context(), batch, func(err error) { done <- err }); err != nil {
			q.t.Fatal(err)
		}
	}
	for range list {
		if err := <-done; err != nil {
			q.t.Fatal(err)
		}
	}
	q.journal.Poke()
	q.settle()
	q.alerts.Look(q.t.Context())
}

// away has the collector be killed, or stopped for some minutes.
func (q *quietDay) away() {
	q.t.Helper()
	clear(q.conns)
	clear(q.peers)
	q.day.Disconnect()
	if q.rnd.IntN(2) == 0 {
		q.kill()
		return
	}
	if err := q.Server.Close(); err != nil {
		q.t.Fatal(err)
	}
	for range 1 + q.rnd.IntN(40) {
		if !q.day.Over() {
			q.day.Minute(false)
		}
	}
	q.mu.Lock()
	q.now = q.day.Now()
	q.mu.Unlock()
	q.open()
}

// live lets the day go by. What at does is done once, when it says so.
func (q *quietDay) live(at func(minute int) (done bool)) {
	q.t.Helper()
	for minute := 0; !q.day.Over(); minute++ {
		list := q.day.Minute(true)
		q.take(list, q.day.Now())
		switch q.rnd.IntN(250) {
		case 0:
			q.away()
		case 1:
			if err := q.Rotate(q.t.Context()); err != nil {
				q.t.Fatal(err)
			}
		}
		if at != nil && at(minute) {
			at = nil
		}
	}
	q.take(q.day.Settle(), q.day.Now())
}

// lacks says what of a host is not complete in a time; 0: of its first or last word.
func (q *quietDay) lacks(host string, from, to int64) (text string, a *ledger.Answer) {
	q.t.Helper()
	list, err := q.head.Completeness(q.t.Context(), head.CoverageQuery{Want: func(h string) bool { return h == host }, From: from, To: to})
	if err != nil || len(list) != 1 {
		q.t.Fatalf("%d answers, %v", len(list), err)
	}
	a = list[0]
	if a.State == ledger.Complete {
		return "", a
	}
	text = fmt.Sprintf("%s %d", a.State, a.Lost)
	for _, x := range a.Intervals {
		if x.Cause.State() != ledger.Complete {
			text += fmt.Sprintf("\n\t%s %d, %s to %s", x.Cause, x.N, time.UnixMilli(x.From).UTC(), time.UnixMilli(x.To).UTC())
		}
	}
	return text, a
}

// note is the line beside a search of a time.
func (q *quietDay) note(from, to int64) string {
	q.t.Helper()
	var text bytes.Buffer
	need.Wait(q.t, "whether it is complete is found out in time", func() bool {
		o, err := render.ParseSearch([]string{"-k", "exec"}, false)
		if err != nil {
			q.t.Fatal(err)
		}
		text.Reset()
		o.Query.StartMs, o.Query.EndMs = from, to
		if err := render.SearchNote(q.t.Context(), o, &live{q.head, q.Server}).Say(q.t.Context(), io.Discard, &text); err != nil {
			q.t.Fatal(err)
		}
		return !strings.Contains(text.String(), "found out in")
	})
	return text.String()
}

// ask asks in the midst of the day, as a cron job does, of hosts that are connected or shut down.
func (q *quietDay) ask() {
	q.t.Helper()
	for _, h := range q.day.Hosts {
		if !h.Online() && !h.ShutDown() || q.next[h.Name] == 0 {
			continue
		}
		if text, a := q.lacks(h.Name, 0, 0); text != "" && a.State != ledger.Pending {
			q.t.Errorf("%s, %s, asked at %v: %s", h.Name, h.Kind, q.day.Now(), text)
		}
	}
}

// quietHosts and quietDays are how much TestQuietDay does; the build tag soak has more.
var quietHosts, quietDays = 8, 2

func quietConfig(seed uint64) madeday.Config {
	begin := time.Date(2026, 11, 20, 19, 30, 0, 0, time.UTC) // over midnight
	return madeday.Config{Seed: seed, Begin: begin, Hosts: quietHosts, Minutes: need.Size(24*60, 400), Rate: 2}
}

// TestQuietDay has days of ordinary work pass through the collector, which itself is killed,
// stopped and started meanwhile: every host's trail is complete, and every part of it; nobody is
// alerted; searches say nothing.
func TestQuietDay(t *testing.T) {
	t.Parallel()
	seed := need.Seed(t)
	for round := range need.Rounds(quietDays, 1) {
		cfg := quietConfig(seed + uint64(round))
		q := makeQuietDay(t, cfg)
		q.live(func(minute int) bool {
			if minute%45 == 0 {
				q.ask()
			}
			return false
		})
		for _, g := range q.told {
			t.Errorf("AUDITFLEET_SEED=%d: %s: %+v", cfg.Seed, g.Key, g.Notices[0])
		}
		q.want("at the end of the day", alert.Firing)
		for _, h := range q.day.Hosts {
			text, a := q.lacks(h.Name, 0, 0)
			if text != "" {
				t.Errorf("AUDITFLEET_SEED=%d: %s, %s: %s", cfg.Seed, h.Name, h.Kind, text)
			}
			if events := uint64(cfg.Minutes) / 40; a.Records < events {
				t.Errorf("%s has %d records: a day of nothing shows nothing", h.Name, a.Records)
			}
			for range 10 {
				from := a.From + q.rnd.Int64N(a.To-a.From)
				to := from + 1 + q.rnd.Int64N(a.To-from)
				if text, _ := q.lacks(h.Name, from, to); text != "" {
					t.Errorf("AUDITFLEET_SEED=%d: %s, %s, from %d to %d: %s", cfg.Seed, h.Name, h.Kind, from, to, text)
				}
			}
		}
		end := q.day.Now().Add(-10 * time.Minute).UnixMilli()
		for _, from := range []int64{0, cfg.Begin.Add(10 * time.Minute).UnixMilli()} {
			if text := q.note(from, end); text != "" {
				t.Errorf("AUDITFLEET_SEED=%d: a search says: %s", cfg.Seed, text)
			}
		}
	}
}

// TestLossOfADay has one host of such a day lose something: it is named, with cause and number, and
// no other host is; an alert fires where there is one for it, and searches say so.
func TestLossOfADay(t *testing.T) {
	t.Parallel()
	cfg := quietConfig(need.Seed(t))
	cfg.Minutes = 180
	q := makeQuietDay(t, cfg)
	var loss *madeday.Loss
	q.live(func(minute int) bool {
		if h := q.day.Hosts[q.rnd.IntN(len(q.day.Hosts))]; minute > 30 && q.day.Calm(h) {
			how := h.Losses()
			loss = q.day.Lose(h, how[q.rnd.IntN(len(how))])
		}
		return loss != nil
	})
	if loss == nil {
		t.Fatal("no host was calm for some minutes")
	}
	for _, h := range q.day.Hosts {
		text, a := q.lacks(h.Name, 0, 0)
		if h != loss.Host {
			if text != "" {
				t.Errorf("%s, %s: %s", h.Name, h.Kind, text)
			}
			continue
		}
		if i := slices.IndexFunc(a.Causes, func(s ledger.Sum) bool { return s.Cause.String() == loss.Cause }); a.State != ledger.Lost || a.Lost != loss.N || i < 0 || a.Causes[i].N != loss.N {
			t.Errorf("%s, and the answer is: %s", loss, text)
		}
	}
	var alerted []string
	for _, g := range q.told {
		for _, n := range g.Notices {
			alerted = append(alerted, n.State+" "+n.ID)
		}
	}
	want := []string{}
	if loss.Cause != "serial-gap" { // of that it takes a hundred
		want = append(want, fmt.Sprintf("firing loss cause=%q hop=%q host=%q", loss.Cause, loss.Hop(), loss.Host.Name))
	}
	alerted = slices.DeleteFunc(alerted, func(s string) bool { return strings.HasPrefix(s, alert.Resolved+" ") })
	if !slices.Equal(alerted, want) && len(alerted)+len(want) > 0 {
		t.Errorf("%s: told %q, want %q", loss, alerted, want)
	}
	if text := q.note(0, 0); !strings.Contains(text, loss.Host.Name) || !strings.Contains(text, fmt.Sprintf("%d lost (%s)", loss.N, loss.Cause)) {
		t.Errorf("%s, and a search says: %s", loss, text)
	}
}
