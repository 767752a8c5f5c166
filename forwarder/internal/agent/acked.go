package agent

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/forwarder/internal/ship"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// AckedName is the file in the spool's folder that says who has acknowledged what (FORMAT.md).
const AckedName = "acknowledged"

const (
	ackedHeader = "auditfleet-acknowledged 1\n"
	ackedFields = 8
	// maxAcked is beyond what the file of so many entries can have.
	maxAcked = 1 << 20
)

// ErrAcked is returned for a file that is not a list of acknowledgements, or a newer one.
var ErrAcked = errors.New("not a list of acknowledgements that this program knows")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ackedFile keeps who has acknowledged what. The entry that grows is written in place, before
// the spool's state says that its records are acknowledged, and not synced: a kill of the
// process loses nothing of it, and a loss of power what the disk had not got. A new entry
// replaces the file durably.
type ackedFile struct {
	path string

	mu      sync.Mutex
	f       *os.File       // guarded by mu, as all below: the file; nil: to be written anew
	kept    []ship.AckedBy // what it said at the start
	last    int64          // where its last line begins
	written ship.AckedBy   // what that says
	entries uint64         // that there had been by then
	line    []byte
	gone    time.Time // since when another file, or none, has its name
	bad     error     // it is left alone: why
}

// openAcked reads the file. What it says of damage is for the log; a file that is not ours is
// never written.
func openAcked(dir string) (k *ackedFile, damaged int, err error) {
	k = &ackedFile{path: filepath.Join(dir, AckedName)}
	k.kept, damaged, err = ReadAcked(k.path)
	if err != nil {
		k.bad = err
	}
	return k, damaged, err
}

// ReadAcked reads who has acknowledged what, and how many lines of it are damaged: none where
// there is no file yet. Another process may be writing it.
func ReadAcked(path string) (list []ship.AckedBy, damaged int, err error) {
	f, err := fsys.OpenOwn(path, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("who has acknowledged what: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxAcked))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, 0, fmt.Errorf("who has acknowledged what: %w", err)
	}
	list, damaged, err = parseAcked(b)
	if err != nil {
		err = fmt.Errorf("%s: %w: move it away, and another one is made", path, err)
	}
	return list, damaged, err
}

// Acknowledged says for people who has acknowledged what, the latest first, by the folder of
// a spool.
func Acknowledged(dir string) (text []string, err error) {
	list, damaged, err := ReadAcked(filepath.Join(dir, AckedName))
	if err != nil {
		return nil, err
	}
	for _, by := range slices.Backward(list) {
		text = append(text, turn(&by))
	}
	if damaged > 0 {
		text = append(text, fmt.Sprintf("%d damaged entries", damaged))
	}
	return text, nil
}

// turn is an entry for people.
func turn(by *ship.AckedBy) string {
	proved := "in clear text"
	if by.Peer.Name != "" {
		proved = "as " + word(by.Peer.Name)
	}
	return fmt.Sprintf("%s (%s, %s): %d records, offsets %d to %d of stream %x, the last at %s", word(by.Server), proved, word(by.Peer.Addr), by.Records, by.From, by.To, by.Stream, by.When.UTC().Format(time.RFC3339))
}

func parseAcked(b []byte) (list []ship.AckedBy, damaged int, err error) {
	rest, ok := bytes.CutPrefix(b, []byte(ackedHeader))
	switch {
	case len(bytes.Trim(b, "\x00")) == 0: // made, and the power went
		return nil, 0, nil
	case !ok:
		return nil, 0, ErrAcked
	}
	for line := range bytes.Lines(rest) {
		by, ok := parseAckedLine(line)
		if !ok {
			damaged++
			continue
		}
		list = append(list, by)
	}
	return list, damaged, nil
}

// appendAcked appends an entry's line. As long as server and peer stay the same, so does its
// length.
func appendAcked(dst []byte, by *ship.AckedBy) []byte {
	at := len(dst)
	dst = fmt.Appendf(dst, "%x %020d %020d %020d %s %s %s %s ", by.Stream, by.From, by.To, by.Records, by.When.UTC().Format(time.RFC3339), word(by.Server), word(by.Peer.Name), word(by.Peer.Addr))
	return fmt.Appendf(dst, "%08x\n", crc32.Checksum(dst[at:], castagnoli))
}

// word is a text as one field: what is no printable ASCII is a question mark, and nothing is a
// hyphen.
func word(s string) string {
	if s == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

func parseAckedLine(line []byte) (by ship.AckedBy, ok bool) {
	text, ok := strings.CutSuffix(string(line), "\n")
	at := strings.LastIndexByte(text, ' ')
	if !ok || at < 0 || fmt.Sprintf("%08x", crc32.Checksum(line[:at+1], castagnoli)) != text[at+1:] {
		return by, false
	}
	f := strings.Split(text[:at], " ")
	if len(f) != ackedFields {
		return by, false
	}
	if n, err := hex.Decode(by.Stream[:], []byte(f[0][:min(len(f[0]), 32)])); err != nil || n != 16 || len(f[0]) != 32 {
		return by, false
	}
	for i, to := range []*uint64{&by.From, &by.To, &by.Records} {
		if _, err := fmt.Sscanf(f[1+i], "%d", to); err != nil {
			return by, false
		}
	}
	var err error
	by.When, err = time.Parse(time.RFC3339, f[4])
	for i, to := range []*string{&by.Server, &by.Peer.Name, &by.Peer.Addr} {
		if *to = f[5+i]; *to == "-" {
			*to = ""
		}
	}
	return by, err == nil && by.From <= by.To
}

// save has the file say what the sender knows: its last entry, how many there have been, and,
// where one is new, all.
func (k *ackedFile) save(last ship.AckedBy, entries uint64, all func() []ship.AckedBy) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.bad != nil, k.f != nil && k.moved():
		return nil
	case k.f == nil, entries != k.entries:
		k.entries = entries // all may have more by now: then the next call writes anew
		return k.replace(all())
	case last == k.written:
		return nil
	}
	k.line = appendAcked(k.line[:0], &last)
	_, err := k.f.WriteAt(k.line, k.last)
	if err == nil {
		k.written = last
	}
	return err
}

// moved reports whether the file is no longer the one of that name, and not yet to be made
// again: the spool must have seen whether its folder is another one. mu is held.
func (k *ackedFile) moved() bool {
	if named, err := fsys.Named(k.f, k.path); named || err != nil {
		k.gone = time.Time{}
		return false // what can't be told is taken for there
	}
	now := time.Now()
	if k.gone.IsZero() {
		k.gone = now
	}
	if now.Sub(k.gone) < homeAfter {
		return true
	}
	_ = k.f.Close() // nobody can find it
	k.f, k.gone = nil, time.Time{}
	return false
}

// homeAfter is more than the spool takes to see that it was moved.
const homeAfter = 5 * time.Second

// replace writes the file anew, durably. mu is held.
func (k *ackedFile) replace(list []ship.AckedBy) error {
	if k.f != nil {
		_ = k.f.Close() // what it had is written again
		k.f = nil
	}
	text := []byte(ackedHeader)
	last := 0
	for i := range list {
		last = len(text)
		text = appendAcked(text, &list[i])
	}
	if _, _, err := ReadAcked(k.path); err != nil { // another one has its place
		return err
	}
	if err := fsys.Replace(k.path, text, 0o600, true); err != nil {
		return err
	}
	f, err := fsys.OpenOwn(k.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	k.f, k.last = f, int64(last)
	k.written = list[len(list)-1]
	return nil
}

// close syncs what was written in place.
func (k *ackedFile) close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.f == nil {
		return nil
	}
	err := errors.Join(k.f.Sync(), k.f.Close())
	k.f = nil
	return err
}

// keepAcked is the spool's BeforeAcked: it keeps who has acknowledged what, where the spool is
// in its place.
func (s *shipping) keepAcked() {
	if s.sender == nil || s.spool.Away() != "" {
		return
	}
	last, entries := s.sender.LastAcked()
	if entries == 0 {
		return
	}
	err := s.acked.save(last, entries, s.sender.AckedBy)
	if failed := err != nil; s.ackedFails.Swap(failed) != failed && failed {
		s.log.Warn("who has acknowledged what can't be kept for the next start; records are not concerned", "error", err)
	}
}
