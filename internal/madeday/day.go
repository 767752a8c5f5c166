// Package madeday makes what the hosts of a fleet send over a day of ordinary work, drawn from a
// seed: they reboot, are off over night, load rules, rotate logs, have their clocks set, are cut
// off and come again. Nothing of it is a loss, so nobody may call it one. What is lost on
// purpose (Lose) must be named.
//
// Times are made, none is measured. Tests import it, and make demo, which tells a story of its own.
package madeday

import (
	"math/rand/v2"
	"slices"
	"time"
)

// Kind is what a host sends its records with.
type Kind uint8

// Kinds of hosts.
const (
	Stream Kind = iota // our forwarder, by gRPC: offsets in a stream
	Clear              // our forwarder, by the audisp-remote protocol
	Stock              // auditd and audisp-remote, which say nothing of how they stand
	Plugin             // auditd, and our forwarder as its plugin in place of audisp-remote
	kinds
)

func (k Kind) String() string { return [...]string{"stream", "clear", "stock", "plugin"}[k] }

// Config says what a day is like.
type Config struct {
	Seed  uint64
	Begin time.Time
	Hosts int // of each kind in turn
	// Minutes is how long the day is.
	Minutes int
	// Rate is how many events a host makes in a minute, about.
	Rate int
	// Names are the hosts', who are host00, host01 … without.
	Names []string
	// Work makes the records of one thing that happens on a host, where it is not left to this package.
	Work func(rnd *rand.Rand, host string) []string
	// Story is what happens besides that, ordered by time.
	Story []Happening
	// Orderly has no host do what hosts do now and then: it does not reboot, its clock is right, its link is not cut.
	Orderly bool
	// Leaps has clocks be wrong by hours, for a while: a host that boots with the clock of
	// another zone, or without any.
	Leaps bool
}

// Happening is an event that happens on a host at a time; each record begins with its type.
type Happening struct {
	Host    string
	At      time.Time
	Records []string
}

// Day is a day that is being made.
type Day struct {
	Hosts  []*Host
	cfg    Config
	minute int
}

// Line is a record as a sender sends it.
type Line struct {
	Raw []byte
	// Index is the record's place in all that the host sends, from 0.
	Index uint64

	made time.Time
}

// Batch is what comes over one connection at once.
type Batch struct {
	Host  *Host
	At    time.Time // by the collector's clock
	Conn  int       // of the host's, from 1
	First bool      // the connection begins with it
	Seq   uint32    // of the first line, in the connection
	Lines []Line
}

// New begins a day.
func New(cfg Config) *Day {
	d := &Day{cfg: cfg}
	for i := range cfg.Hosts {
		d.Hosts = append(d.Hosts, newHost(i, &cfg, rand.New(rand.NewPCG(cfg.Seed, uint64(i)+2))))
	}
	return d
}

// Over reports whether the day is over.
func (d *Day) Over() bool { return d.minute >= d.cfg.Minutes }

// Now is up to when the day has been made.
func (d *Day) Now() time.Time { return d.cfg.Begin.Add(time.Duration(d.minute) * time.Minute) }

// Minute makes the next minute, and returns what comes to the collector in it, in order. While there is
// no collector (up is false) hosts keep what they have.
func (d *Day) Minute(up bool) []Batch {
	at := d.Now()
	d.minute++
	var all []Batch
	for _, h := range d.Hosts {
		h.up = up
		h.minute(d.minute, at)
		all = append(all, h.out...)
		h.out = nil
	}
	slices.SortStableFunc(all, func(x, y Batch) int { return x.At.Compare(y.At) })
	return all
}

// Online reports whether the host is up and connected, and has sent all it had.
func (h *Host) Online() bool { return h.off == 0 && h.open && len(h.spool) == 0 }

// ShutDown reports whether the host is shut down, and had sent all.
func (h *Host) ShutDown() bool { return h.off != 0 && len(h.spool) == 0 }

// Disconnect ends all connections: the collector has ended them.
func (d *Day) Disconnect() {
	for _, h := range d.Hosts {
		h.open = false
	}
}

// Settle ends the day: every host sends what it still has, and has been quiet for a while.
func (d *Day) Settle() []Batch {
	var all []Batch
	for _, h := range d.Hosts {
		h.settling = true
	}
	for range 4 {
		all = append(all, d.Minute(true)...)
	}
	return all
}
