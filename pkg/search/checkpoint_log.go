package search

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/pkg/logscan"
)

// logID is what a checkpoint knows a log by.
type logID struct {
	dev, inode uint32 // all that the stock tool has room for
	// first is the digest of the log's first line, by which it is known again where it was
	// compressed; zero where it is not known.
	first digest
}

// logIDOf identifies an open log. It moves the file's place.
func logIDOf(f *os.File) (id logID, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return id, &CheckpointError{codeFailed, fmt.Sprintf("Cannot stat audit file for checkpoint details - %s: %v", f.Name(), err)}
	}
	id = logID{dev: uint32(st.Dev), inode: uint32(st.Ino)}
	line, err := logscan.FirstLine(f)
	if err == nil && line != nil {
		sum := sha256.Sum256(line)
		id.first = digest(sum[:len(id.first)])
	}
	return id, nil // what cannot be read is not known
}

// find returns which of the logs id is, or -1. An inode may have become another log's, so
// the first line decides where it is known.
func (id *logID) find(paths []string) int {
	ids := make([]logID, len(paths))
	for i, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		ids[i], _ = logIDOf(f) // one without an inode is no log's
		f.Close()              // read only
	}
	at := slices.IndexFunc(ids, func(o logID) bool { return o.dev == id.dev && o.inode == id.inode })
	if id.first == (digest{}) || at >= 0 && ids[at].first == id.first {
		return at
	}
	return slices.IndexFunc(ids, func(o logID) bool { return o.first == id.first })
}

// earlyEvents counts events by their digests.
type earlyEvents map[digest]int

// take takes an event out and says whether it was there.
func (e earlyEvents) take(d digest) bool {
	n := e[d]
	if n > 1 {
		e[d] = n - 1
	} else {
		delete(e, d)
	}
	return n > 0
}

// add adds what is in o.
func (e earlyEvents) add(o earlyEvents) {
	for d, n := range o {
		e[d] += n
	}
}

// maxEarly is how many events are printed before they are complete. Their digests fit a file
// of maxCheckpoint.
const maxEarly = 900_000

// lineDigests is how many digests stand in a line: the stock tool reads no more than 1,022
// bytes of one.
const lineDigests = 25

// ours says whether the file has what only this program writes.
func (cp *checkpoint) ours() bool {
	return cp.nothing || cp.nth > 0 || len(cp.early) > 0 || cp.log.first != (digest{})
}

// save writes the checkpoint to path. The error is a *CheckpointError.
func (cp *checkpoint) save(path string) error {
	text := fmt.Appendf(nil, "dev=0x%X\n", cp.log.dev)
	text = fmt.Appendf(text, "inode=%d", cp.log.inode)
	if cp.log.first != (digest{}) {
		text = fmt.Appendf(text, " first=%x", cp.log.first)
	}
	if cp.nth > 0 || cp.nothing {
		text = fmt.Appendf(text, " events=%d", cp.nth)
	}
	text = append(text, '\n')
	n := 0
	for _, d := range slices.SortedFunc(maps.Keys(cp.early), func(a, b digest) int { return bytes.Compare(a[:], b[:]) }) {
		for range cp.early[d] {
			switch n % lineDigests {
			case 0:
				text = fmt.Appendf(text, "inode=%d printed=%x", cp.log.inode, d)
			default:
				text = fmt.Appendf(text, ",%x", d)
			}
			if n++; n%lineDigests == 0 {
				text = append(text, '\n')
			}
		}
	}
	if n%lineDigests != 0 {
		text = append(text, '\n')
	}
	return writeCheckpoint(path, cp.last.appendTo(text))
}

// words reads what stands behind the inode, and says whether it can.
func (cp *checkpoint) words(s string) (ok bool) {
	if s == "" {
		return true
	}
	for _, word := range strings.Split(s, " ") {
		switch name, v, _ := strings.Cut(word, "="); name {
		case "first":
			ok = cp.log.first.parse(v) && cp.log.first != (digest{})
		case "events":
			cp.nth, ok = number(v)
			cp.nothing = cp.nth == 0
		case "printed":
			for _, sum := range strings.Split(v, ",") {
				var d digest
				if ok = d.parse(sum); !ok {
					return false
				}
				cp.early[d]++
			}
		default:
			return false
		}
		if !ok {
			return false
		}
	}
	return true
}

// parse reads a digest from its hexadecimal digits.
func (d *digest) parse(s string) bool {
	if len(s) != hex.EncodedLen(len(d)) {
		return false
	}
	_, err := hex.Decode(d[:], []byte(s))
	return err == nil
}
