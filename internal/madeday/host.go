package madeday

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Host is one host: its clock, its kernel, its audit daemon and what that has not sent.
type Host struct {
	Name string
	Kind Kind

	rnd      *rand.Rand
	cfg      *Config
	plan     map[int]func(at time.Time)
	settling bool

	now  time.Time     // true time
	skew time.Duration // of its clock
	// wrong is for how many minutes to come it is wrong by hours.
	wrong int

	// The kernel. keeps says that it was booted with audit=1: it keeps events for a daemon
	// that is not there.
	boot   int
	booted time.Time // by its clock
	serial uint32
	keeps  bool
	kept   []Line
	off    int // until which minute it is shut down
	rate   int

	// The daemon.
	runs    bool
	run     string
	n       int
	from    time.Time // by its clock
	handed  int
	dropped int
	lost    int
	rules   string
	own     uint32 // serial of its own records
	still   bool   // nearly nothing happens on it now
	due     []Happening
	stir    int // for how many minutes to come the host is not quiet

	// The sender.
	spool []Line
	last  []Line // sent, and perhaps not acknowledged
	index uint64
	up    bool // there is a collector
	cut   int  // until which minute the link is
	conn  int
	open  bool
	seq   uint32
	sent  time.Time
	out   []Batch
}

func newHost(i int, cfg *Config, rnd *rand.Rand) *Host {
	h := &Host{
		Name: fmt.Sprintf("host%02d", i), Kind: Kind(i) % kinds, rnd: rnd, cfg: cfg, plan: map[int]func(time.Time){},
		serial: rnd.Uint32N(1 << 20), boot: 1, runs: true, keeps: rnd.IntN(2) == 0, now: cfg.Begin, own: rnd.Uint32N(1e6), rules: rulesHash,
	}
	h.booted = cfg.Begin.Add(-time.Duration(rnd.IntN(300)) * time.Hour)
	h.skew = time.Duration(rnd.IntN(4000)-2000) * time.Millisecond
	h.rate = 1 + rnd.IntN(2*cfg.Rate)
	if i < len(cfg.Names) {
		h.Name = cfg.Names[i]
	}
	for _, s := range cfg.Story {
		if s.Host == h.Name {
			h.due = append(h.due, s)
		}
	}
	if cfg.Orderly {
		h.skew = 0
	}
	h.startDaemon()
	if !cfg.Orderly {
		h.makePlan()
	}
	return h
}

// rulesHash is that of the rules that every host has in the end.
const rulesHash = "aaaa0000aaaa0000aaaa0000aaaa0000aaaa0000aaaa0000aaaa0000aaaa0000"

// clock is a time by the host's clock.
func (h *Host) clock() time.Time { return h.now.Add(h.skew) }

func stamp(t time.Time) string { return fmt.Sprintf("%d.%03d", t.Unix(), t.Nanosecond()/1e6) }

// minute makes a minute that begins at a time.
func (h *Host) minute(minute int, at time.Time) {
	h.now = at
	if h.off > minute {
		return
	}
	if h.off != 0 {
		h.start()
	}
	if h.wrong > 0 {
		if h.wrong--; h.wrong == 0 || h.settling {
			h.skew, h.wrong = time.Duration(h.rnd.IntN(20_000)-10_000)*time.Millisecond, 0
		}
	}
	events, quiet := h.rnd.IntN(2*h.rate+1), h.quiet(minute)
	h.still = quiet
	switch {
	case quiet:
		events = 0
		if h.rnd.IntN(40) == 0 {
			events = 1
		}
	case h.rnd.IntN(200) == 0:
		events = 40 * h.rate // a burst
	}
	if h.settling {
		h.cut = 0
		events = max(events, 1)
	}
	if h.stir > 0 {
		h.stir--
		events = max(events, 3)
	}
	// Where in the minute the events are, the plan's work and what is sent.
	var marks []int
	for range events {
		marks = append(marks, h.rnd.IntN(59_000))
	}
	for _, s := range h.due {
		if in := s.At.Sub(at); in < time.Minute {
			marks = append(marks, int(in.Milliseconds()))
		}
	}
	slices.Sort(marks)
	if do := h.plan[minute]; do != nil && !h.settling && h.wrong == 0 {
		h.now = at.Add(time.Duration(h.rnd.IntN(400)) * time.Millisecond)
		do(at)
	}
	for len(marks) > 0 && h.off == 0 {
		n := min(len(marks), 1+h.rnd.IntN(1+2*h.rate))
		h.events(at, marks[:n])
		marks = marks[n:]
		if h.rnd.IntN(3) == 0 {
			h.send(minute)
		}
	}
	if h.off != 0 {
		h.send(minute)
		return
	}
	h.now = maxTime(h.now, at.Add(59_200*time.Millisecond+time.Duration(h.rnd.IntN(700))*time.Millisecond))
	if h.Kind == Stock || h.clock().Sub(h.from) < 55*time.Second && !h.clock().Before(h.from) {
		h.send(minute)
		return
	}
	h.send(minute)
	if h.rnd.IntN(4) == 0 { // that is not sent yet
		h.get(h.work())
	}
	h.alive(false)
	h.send(minute)
}

func maxTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// send has the collector get what waits, where there is one and a way to it.
func (h *Host) send(minute int) {
	if h.cut > minute || !h.up {
		h.open = false
		return
	}
	if len(h.spool) == 0 {
		return
	}
	h.sent = maxTime(h.sent, h.now.Add(time.Duration(1+h.rnd.IntN(80))*time.Millisecond))
	b := Batch{Host: h, At: h.sent, First: !h.open}
	if !h.open {
		h.open = true
		h.conn++
		h.seq = 1
		again := h.last // what was not acknowledged comes again
		if h.Kind == Stock {
			again = again[max(0, len(again)-1):]
		} else if len(again) > 0 {
			again = again[h.rnd.IntN(len(again)):]
		}
		b.Lines = slices.Clone(again)
	}
	b.Conn, b.Seq = h.conn, h.seq
	b.Lines = append(b.Lines, h.spool...)
	h.seq += uint32(len(b.Lines))
	h.last = append(h.last, h.spool...)
	h.last = slices.Clone(h.last[max(0, len(h.last)-40):])
	h.spool = nil
	h.out = append(h.out, b)
}

// line gives the daemon a record, which it hands on.
func (h *Host) line(raw string) {
	h.handed++
	h.spool = append(h.spool, Line{Raw: []byte("node=" + h.Name + " " + raw), Index: h.index, made: h.clock()})
	h.index++
}
