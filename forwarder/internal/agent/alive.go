package agent

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/forwarder/internal/boot"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/pkg/daemonrec"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// alive knows what the next statement is about: the record of ours by which a collector learns
// that this program lives and how it stands, so that silence means something. FORMAT.md,
// "Statement", has its fields. The pump uses it.
type alive struct {
	run  string // of this process, random
	boot string // the kernel's boot ID
	said uint64
	from time.Time // up to here the statement before speaks
	was  condition // since then
}

// condition is what a source says of the kernel. What does not apply is empty.
type condition struct {
	registered, enabled string // "" of a source that is no kernel
	serial              uint32 // the highest that was handed on
	lost, backlog       uint32 // as the kernel counts
	found               string // the enabled flag as this run found it
	invisible           int    // processes that are older than auditing
	rules               string // the hash of the loaded rules
}

// same reports whether two conditions make one interval of a statement.
func (c condition) same(d condition) bool {
	return c.registered == d.registered && c.enabled == d.enabled
}

func newAlive(now time.Time) alive {
	var run [8]byte
	rand.Read(run[:])
	id, _ := boot.ID("") // "" where it can't be read
	return alive{run: hex.EncodeToString(run[:]), boot: id, from: now}
}

// sayAlive makes a statement when one is due: at the start of a run whose source is the kernel,
// when the interval is over, when the kernel's condition has changed, and at the end of a run
// (last). A spool that does not take it gets
// it later: the next statement then speaks of both intervals.
func (a *Agent) sayAlive(last bool, mark []byte) {
	v, now := &a.alive, a.cfg.Now()
	if a.cfg.AliveEvery <= 0 || a.ship == nil || a.src.ends() {
		return
	}
	is := a.src.condition()
	if now.UnixMilli() < v.from.UnixMilli() { // the clock was set back, which Before does not see: it goes by another one
		v.from = now
	}
	changed := !is.same(v.was)
	if v.said == 0 && v.was == (condition{}) {
		v.was, changed = is, false
	}
	if last && a.daemon == nil && v.said == 0 {
		return // a source of lines that was over within a minute
	}
	begins := v.said == 0 && is.enabled != ""
	if !last && !changed && !begins && now.Sub(v.from) < a.cfg.AliveEvery {
		return
	}
	said := is
	said.registered, said.enabled = v.was.registered, v.was.enabled
	if a.pump.try(a.own.alive(v, said, a.stands(), now, last), mark) {
		v.said++
		v.from, v.was = now, is
	}
}

// standing is how far records have come on their way to the collector.
type standing struct {
	source  string
	records uint64   // that the spool took in this run
	dropped uint64   // of them, and not shipped
	lost    uint64   // that this run could not ship, by any cause
	acked   []uint64 // by each collector, where there are several
	unsent  uint64
	oldest  time.Duration // the age of the oldest that is not acknowledged
}

func (a *Agent) stands() standing {
	s := standing{source: a.cfg.Source, records: a.pump.spooledInAll}
	switch s.source {
	case SourceKernel, SourceMulticast, SourceStdin:
	default:
		s.source = "file"
	}
	for cause, n := range a.losses() {
		if cause != "local-log" {
			s.lost += n
		}
	}
	st := a.ship.spool.Stats()
	s.dropped = st.Dropped + st.Damaged + a.ship.metrics.Dropped.Load()
	s.acked = a.ship.sender.AckedCounts()
	s.unsent, s.oldest = st.Records, st.Age
	return s
}

// alive words a statement.
func (o *own) alive(v *alive, c condition, s standing, now time.Time, last bool) kernel.Record {
	var b strings.Builder
	fmt.Fprintf(&b, "op=alive run=%s n=%d first=%s last=%s", v.run, v.said+1, stamp(v.from), stamp(now))
	if v.boot != "" {
		fmt.Fprintf(&b, " boot=%s", v.boot)
	}
	fmt.Fprintf(&b, " source=%s", s.source)
	res := "success"
	if c.enabled != "" {
		fmt.Fprintf(&b, " registered=%s enabled=%s found=%s serial=%d kernel-lost=%d backlog=%d invisible=%d", c.registered, c.enabled, c.found, c.serial, c.lost, c.backlog, c.invisible)
		if c.enabled == "0" {
			res = "failed"
		}
	}
	if c.rules != "" {
		fmt.Fprintf(&b, " rules=%s", c.rules)
	}
	fmt.Fprintf(&b, " records=%d dropped=%d lost=%d unsent=%d", s.records, s.dropped, s.lost, s.unsent)
	for i, n := range s.acked {
		word := ","
		if i == 0 {
			word = " acked="
		}
		b.WriteString(word)
		b.WriteString(strconv.FormatUint(n, 10))
	}
	if s.unsent > 0 {
		fmt.Fprintf(&b, " oldest=%s", stamp(now.Add(-s.oldest)))
	}
	if last {
		b.WriteString(" ends=yes")
	}
	return o.record(tables.DaemonResume, "%s auid=%s pid=%d res=%s", b.String(), daemonrec.ProcessID("self", "loginuid"), os.Getpid(), res)
}

// stamp is a time as records have it, in seconds and milliseconds.
func stamp(t time.Time) string { return fmt.Sprintf("%d.%03d", t.Unix(), t.Nanosecond()/1e6) }
