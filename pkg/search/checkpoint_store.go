package search

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/event"
)

// storeCheckpoint records which events of a collector's store were printed
// (CHECKPOINT.md). It relies on batches: the store numbers its batches as they arrive, an
// event never leaves its batch, and no event is added to a batch that is stored. The
// time, name and sender of an event do not say when it arrived, so they are not used.
type storeCheckpoint struct {
	store string // its ID; "" where that is not known
	batch uint64 // events of batches up to this one are done with

	// drained and before are how far --just-one is: events of batches up to drained
	// with times (ms since 1970) before that one are done with. 0: it is not at work.
	drained uint64
	before  int64

	// printed are the events of later batches that were printed.
	printed printedEvents

	// youngest is the greatest time of an event that was printed, in ms since 1970, for
	// --start checkpoint. Times of the far future do not count.
	youngest int64

	old oldPlaces // as long as batches up to drained are not done with
}

// loadStoreCheckpoint reads the checkpoint of a store, that of an older version, too.
// One that is not there is that of a search that printed nothing yet. The error is a
// *CheckpointError.
func loadStoreCheckpoint(path string) (*storeCheckpoint, error) {
	cp := &storeCheckpoint{printed: printedEvents{}}
	b, err := readCheckpoint(path)
	if b == nil || err != nil {
		return cp, err
	}
	first, rest, _ := bytes.Cut(b, []byte("\n"))
	if string(bytes.TrimSuffix(first, []byte("\r"))) != hostsLine {
		return nil, &CheckpointError{codeInvalid, path + " is not the checkpoint of a collector's store"}
	}
	cp.old.only = true // until a line says otherwise
	s := bufio.NewScanner(bytes.NewReader(rest))
	for s.Scan() {
		if bad := cp.line(s.Text()); bad != "" {
			return nil, &CheckpointError{codeInvalid, fmt.Sprintf("%s checkpoint line - [%s]", bad, s.Text())}
		}
	}
	if err := s.Err(); err != nil {
		return nil, &CheckpointError{codeInvalid, fmt.Sprintf("Cannot open checkpoint file - %s: %v", path, err)}
	}
	return cp, nil
}

// line reads one line and returns what is wrong with it.
func (cp *storeCheckpoint) line(s string) (bad string) {
	name, v, _ := strings.Cut(s, "=")
	var ok bool
	switch name {
	case "store":
		cp.store, ok = v, v != ""
	case "batch":
		cp.old.only = false
		cp.batch, ok = number(v)
	case "drained":
		batch, ms, _ := strings.Cut(v, " ")
		var at uint64
		if cp.drained, ok = number(batch); ok {
			at, ok = number(ms)
			cp.before = int64(at)
		}
	case "youngest":
		var at uint64
		at, ok = number(v)
		cp.youngest = int64(at)
	case "printed", "memory":
		ok = cp.printed.parse(v, name == "printed")
	case "received", "output":
		ok = cp.old.line(name, v)
	default:
		return "Unknown"
	}
	if !ok {
		return "Malformed " + name
	}
	return ""
}

// number reads a decimal number that an int64 can hold.
func number(s string) (uint64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return uint64(n), err == nil && n >= 0
}

// save writes the checkpoint to path. The error is a *CheckpointError.
func (cp *storeCheckpoint) save(path string) error {
	text := []byte(hostsLine + "\n")
	if cp.store != "" {
		text = fmt.Appendf(text, "store=%s\n", cp.store)
	}
	text = fmt.Appendf(text, "batch=%d\n", cp.batch)
	if cp.drained > 0 {
		text = fmt.Appendf(text, "drained=%d %d\n", cp.drained, cp.before)
	}
	if cp.youngest > 0 {
		text = fmt.Appendf(text, "youngest=%d\n", cp.youngest)
	}
	text = cp.old.appendTo(text)
	text = cp.printed.appendTo(text)
	if len(text) > maxCheckpoint {
		return &CheckpointError{codeFailed, fmt.Sprintf("Cannot write checkpoint file - %s: it would have %d bytes, %d is the most", path, len(text), maxCheckpoint)}
	}
	return writeCheckpoint(path, text)
}

// done says whether an event is done with: it was printed, or is of what is passed
// over.
func (cp *storeCheckpoint) done(ev *event.Event) bool {
	if ev.Batch <= cp.batch {
		return true
	}
	return ev.Batch <= cp.drained && (ev.Ms < cp.before || cp.old.printed(ev))
}

// passed has the checkpoint be done with batches up to one.
func (cp *storeCheckpoint) passed(batch uint64) {
	cp.batch = batch
	if cp.drained <= batch {
		cp.drained, cp.before, cp.old = 0, 0, oldPlaces{}
	}
	cp.printed.forget(func(p *printedEvent) bool { return p.stored && p.batch <= batch || p.batch+maxMoved <= batch })
}

// drainedTo has the checkpoint be done with what is before a time, of the batches that
// --just-one is at.
func (cp *storeCheckpoint) drainedTo(ms int64) {
	cp.before = max(cp.before, ms)
	cp.printed.forget(func(p *printedEvent) bool { return p.stored && p.batch <= cp.drained && p.ms < cp.before })
}

// printedEvents maps digests to the printed events that have them. Equal events are
// counted one by one.
type printedEvents map[digest][]printedEvent

type printedEvent struct {
	batch  uint64
	ms     int64
	stored bool // when it was met last: it stays in its batch
}

// maxMoved is the largest number of batches by which an event may move on that was
// printed before it was stored. After a restart of the collector such an event may be
// open again; it is then found only when it has ended again, and becomes part of a later
// batch if its first batch is stored before that. The checkpoint therefore remembers the
// event beyond its batch.
const maxMoved = 16

func (p printedEvents) add(d digest, e printedEvent) { p[d] = append(p[d], e) }

// take takes an event out and says whether it was there: of equal ones that of its batch,
// else one that may have become part of another batch since (see maxMoved).
func (p printedEvents) take(d digest, batch uint64) bool {
	list := p[d]
	i := slices.IndexFunc(list, func(e printedEvent) bool { return e.batch == batch })
	if i < 0 {
		i = slices.IndexFunc(list, func(e printedEvent) bool { return !e.stored })
	}
	if i < 0 {
		return false
	}
	if p[d] = slices.Delete(list, i, i+1); len(list) == 1 {
		delete(p, d)
	}
	return true
}

func (p printedEvents) forget(which func(*printedEvent) bool) {
	for d, list := range p {
		if list = slices.DeleteFunc(list, func(e printedEvent) bool { return which(&e) }); len(list) == 0 {
			delete(p, d)
		} else {
			p[d] = list
		}
	}
}

// merge adds what is in o.
func (p printedEvents) merge(o printedEvents) {
	for d, list := range o {
		p[d] = append(p[d], list...)
	}
}

// appendTo appends a line for each event: "printed=BATCH MS DIGEST" where it is stored,
// "memory=BATCH MS DIGEST" where it was not.
func (p printedEvents) appendTo(dst []byte) []byte {
	for _, d := range slices.SortedFunc(maps.Keys(p), func(a, b digest) int { return bytes.Compare(a[:], b[:]) }) {
		for _, e := range p[d] {
			name := "memory"
			if e.stored {
				name = "printed"
			}
			dst = fmt.Appendf(dst, "%s=%d %d %x\n", name, e.batch, e.ms, d)
		}
	}
	return dst
}

// parse adds an event from its line.
func (p printedEvents) parse(v string, stored bool) bool {
	batch, rest, _ := strings.Cut(v, " ")
	ms, sum, _ := strings.Cut(rest, " ")
	e := printedEvent{stored: stored}
	var d digest
	var ok bool
	if e.batch, ok = number(batch); !ok || len(sum) != hex.EncodedLen(len(d)) {
		return false
	}
	var err error
	if e.ms, err = strconv.ParseInt(ms, 10, 64); err != nil {
		return false
	}
	if _, err = hex.Decode(d[:], []byte(sum)); err != nil {
		return false
	}
	p.add(d, e)
	return true
}
