package witness

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"github.com/auditfleet/auditfleet/pkg/checkpoint"
)

// advice is what to do about a finding, by Op.
var advice = map[string]string{
	Fork:     "keep this host's folder of evidence, stop changing the collector's store, and have `collector verify --checkpoint FILE --key K` check a copy of it against both checkpoints (forwarder witness export)",
	Rewind:   "ask who put the collector's store back; where nobody did, check a copy of it with `collector verify --checkpoint FILE --key K` and the checkpoint that was kept (forwarder witness export)",
	Key:      "ask whether the collector got another key (collector seal init); where it did, name it in seal_keys, or accept this (forwarder witness accept)",
	Clock:    "look at the collector's clock, and whether somebody else signs with its key",
	Bad:      "look at the collector: its log cannot be relied on until it proves what it signs",
	Restored: "nothing, where the collector's administrator says that its store was put back on purpose (collector seal accept); else treat it as a change of the log",
	Store:    "nothing, where the collector's store was begun anew or another collector has its name; else ask where the old one is",
}

// brief fills in what a record says of the checkpoints.
func (i *Incident) brief() {
	one := func(text []byte, key string) *brief {
		c, err := checkpoint.Parse(text)
		if err != nil {
			return nil
		}
		return &brief{size: c.Size, root: fmt.Sprintf("%x", c.Root[:]), time: c.Time, store: c.Store, key: key}
	}
	i.held, i.given = one(i.Held, ""), one(i.Given, i.Key)
}

// find notes a finding: in the log, for the stream, and as evidence. unique says what makes it
// another one than those before.
func (k *Keeper) find(i *Incident, unique ...string) {
	i.Text, i.Key = clean(i.Text), clean(i.Key) // both stand on a line of the evidence
	i.ID = identify(append([]string{i.Op, i.Server}, unique...)...)
	now := k.cfg.Now()
	i.When = now
	k.mu.Lock()
	defer k.mu.Unlock()
	k.counts.Alarms[i.Op]++
	if was := k.known[i.ID]; was != nil && !was.Accepted {
		if _, err := os.Lstat(filepath.Join(k.dir, acceptedPrefix+i.ID)); err == nil {
			was.Accepted = true // by command, while we ran
		}
	}
	if was := k.known[i.ID]; was != nil && (was.Accepted || now.Sub(was.When) < sayAgain && now.Sub(was.When) >= 0) {
		return
	}
	i.brief()
	if len(k.known) < 2*maxIncidents {
		k.known[i.ID] = i
	}
	if len(k.unsaved) < maxIncidents {
		k.unsaved = append(k.unsaved, i)
	}
	if len(k.unsaid) < maxIncidents {
		k.unsaid = append(k.unsaid, i)
	}
	k.save.Set()
	s := k.sayer(i.Op)
	if !s.logged.IsZero() && now.Sub(s.logged) < sayEvery && now.After(s.logged) {
		s.quiet++
		return
	}
	words := []any{"op", i.Op, "server", i.Server}
	if i.given != nil {
		words = append(words, "store", i.given.store, "given", i.given.size, "given_root", i.given.root, "given_time", stampOf(i.given.time))
	}
	if i.held != nil {
		words = append(words, "held", i.held.size, "held_root", i.held.root, "held_time", stampOf(i.held.time))
	}
	if i.Key != "" {
		words = append(words, "key", i.Key)
	}
	if s.quiet > 0 {
		words = append(words, "more", s.quiet)
	}
	words = append(words, "evidence", filepath.Join(k.dir, incidentPrefix+i.ID), "do", advice[i.Op])
	s.logged, s.quiet = now, 0
	if i.Alarm() {
		k.cfg.Log.Error(i.Text, words...)
	} else {
		k.cfg.Log.Warn(i.Text, words...)
	}
}

// clean is a text without what is no character of a line.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '?'
		}
		return r
	}, s)
}

// sayer returns what was said of a kind. mu is held.
func (k *Keeper) sayer(op string) *said {
	s := k.said[op]
	if s == nil {
		s = &said{}
		k.said[op] = s
	}
	return s
}

// Statement is what the stream is to say of a finding: the words of a DAEMON_ERR record behind its
// time, up to who says it.
type Statement struct {
	Words string
	Alarm bool
}

// Statements returns what is to be said in the stream now: of each kind the latest at most once a
// minute, with how many there were.
func (k *Keeper) Statements() (list []Statement) {
	now := k.cfg.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.unsaid) == 0 {
		return nil
	}
	latest := map[string]*Incident{}
	var left []*Incident
	for _, i := range k.unsaid {
		s := k.sayer(i.Op)
		if !s.recorded.IsZero() && now.Sub(s.recorded) < sayEvery && now.After(s.recorded) {
			left = append(left, i)
			continue
		}
		latest[i.Op] = i
		s.times++
		i.Said = true
		k.unsaved = append(k.unsaved, i)
	}
	k.unsaid = left
	for _, op := range Ops() {
		i := latest[op]
		if i == nil {
			continue
		}
		s := k.sayer(op)
		list = append(list, Statement{i.words(s.times), i.Alarm()})
		s.recorded, s.times = now, 0
	}
	if len(list) > 0 {
		k.save.Set()
	}
	return list
}

// words are those of an incident's record.
func (i *Incident) words(times int) string {
	text := "op=" + i.Op
	store := ""
	switch {
	case i.given != nil:
		store = i.given.store
	case i.held != nil:
		store = i.held.store
	}
	if store != "" {
		text += " store=" + store
	}
	text += " server=" + word(i.Server)
	if i.Key != "" {
		text += " key=" + word(keyID(i.Key))
	}
	if b := i.held; b != nil {
		text += fmt.Sprintf(" held=%d held-root=%s held-time=%s", b.size, b.root, seconds(b.time))
	}
	if b := i.given; b != nil {
		text += fmt.Sprintf(" given=%d given-root=%s given-time=%s", b.size, b.root, seconds(b.time))
	}
	return text + fmt.Sprintf(" evidence=%s times=%d", i.ID, times)
}

func seconds(t time.Time) string { return fmt.Sprintf("%d.000", t.Unix()) }

// word is a text as one field of a record.
func word(s string) string {
	b := []byte(s)
	for n, c := range b {
		if c <= ' ' || c > '~' || c == '"' || c == '\'' {
			b[n] = '?'
		}
	}
	if len(b) == 0 {
		return "?"
	}
	return string(b[:min(len(b), 300)])
}
