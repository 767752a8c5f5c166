package alert

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// Errors of a file of alerts.
var (
	errNotOurs = errors.New("no file of alerts")
	errVersion = errors.New("a file of alerts of a later version")
	errDamaged = errors.New("a file of alerts that is damaged")
)

const (
	fileHeader  = "auditfleet-alerts "
	fileVersion = "1"
	// maxFile is the most that is read, in bytes, and maxHosts the most hosts: the file keeps no
	// more, whatever max_hosts is.
	maxFile  = 512 << 20
	maxHosts = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// saved is the file's content.
type saved struct {
	Up     int64                `json:"up"`
	Saved  int64                `json:"saved"`
	Hosts  map[string]*seenHost `json:"hosts,omitempty"`
	Alerts []*alert             `json:"alerts,omitempty"`
}

// encode returns the bytes of a file.
func encode(s *saved) []byte {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // numbers and strings
	}
	out := fmt.Appendf(nil, "%s%s %08x\n", fileHeader, fileVersion, crc32.Checksum(text, castagnoli))
	return append(out, text...)
}

// decode is the reverse of encode. Errors: errNotOurs, errVersion, errDamaged.
func decode(b []byte) (*saved, error) {
	line, text, ok := bytes.Cut(b, []byte("\n"))
	words, ours := bytes.CutPrefix(line, []byte(fileHeader))
	if !ours {
		return nil, errNotOurs
	}
	version, sum, _ := bytes.Cut(words, []byte(" "))
	if n, err := strconv.ParseUint(string(version), 10, 31); err == nil && n > 1 {
		return nil, errVersion
	}
	if !ok || string(version) != fileVersion || string(sum) != fmt.Sprintf("%08x", crc32.Checksum(text, castagnoli)) {
		return nil, errDamaged
	}
	s := &saved{}
	if err := json.Unmarshal(text, s); err != nil || s.Up < 0 || len(s.Hosts) > maxHosts || len(s.Alerts) > 3*maxAlerts {
		return nil, errDamaged
	}
	for _, x := range s.Hosts {
		if x == nil || len(x.Lost) > 255 || len(x.Alarms) > 255 {
			return nil, errDamaged
		}
	}
	for _, a := range s.Alerts {
		if a == nil || a.State != Firing && a.State != Resolved && a.State != pending || len(a.Labels) > 8 {
			return nil, errDamaged
		}
	}
	return s, nil
}

// load reads the file. mu need not be held: nobody else has e.
func (e *Evaluator) load() error {
	b, err := e.read()
	if errors.Is(err, fs.ErrNotExist) {
		e.fresh = true
		return nil
	}
	var s *saved
	if err == nil {
		s, err = decode(b)
	}
	switch {
	case errors.Is(err, errVersion):
		return fmt.Errorf("%s: %w: use the collector that wrote it, or a newer one", e.file, err)
	case errors.Is(err, errDamaged), errors.Is(err, errNotOurs):
		e.fresh = true
		aside, moved := e.setAside()
		e.o.Log.Error("the file of alerts cannot be read: it is set aside, and what fires is found and told anew; losses from before are not", "file", e.file, "set_aside", aside, "error", errors.Join(err, moved))
		return nil
	case err != nil:
		return fmt.Errorf("read the alerts: %w", err)
	}
	e.up, e.saved, e.wall, e.resume = s.Up, s.Up, s.Saved, true
	for name, x := range s.Hosts {
		if name, ok := fromKey(name); ok {
			e.hosts[name] = x
		}
	}
	for _, a := range s.Alerts {
		c, err := ByName(a.Condition)
		if err != nil {
			continue // of a version that had more
		}
		a.cond, a.id = c, idOf(a.Condition, a.Labels)
		if _, ok := a.Labels["host"]; ok && a.By == "" {
			a.By = byUnknown // of a version that did not keep it
		}
		e.alerts[a.id] = a
	}
	return nil
}

func (e *Evaluator) read() (_ []byte, err error) {
	f, err := e.o.FS.OpenFile(e.file, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		return nil, errDamaged
	}
	return b, err
}

// setAside gives the file another name.
func (e *Evaluator) setAside() (string, error) {
	for n := 1; ; n++ {
		aside := fmt.Sprintf("%s.corrupt-%d", e.file, n)
		if f, err := e.o.FS.OpenFile(aside, os.O_RDONLY, 0); err == nil {
			if err := f.Close(); err != nil || n > 1000 {
				return aside, errors.Join(err, errors.New("too many of them"))
			}
			continue
		}
		return aside, e.o.FS.Rename(e.file, aside)
	}
}

// errHangs says that the file is being written, and that has not returned for Options.Patience.
var errHangs = errors.New("the write has not returned yet: the disk hangs")

// save writes the file. What cannot be written is tried again at the next look, and said once. It waits for
// the disk at most for a time, where that is not 0. looking is held, mu is not.
func (e *Evaluator) save(most time.Duration) {
	e.mu.Lock()
	text, up := e.encode(), e.up
	e.mu.Unlock()
	err := e.write(text, most)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		if e.o.Metrics != nil {
			e.o.Metrics.Errors.Inc()
		}
		if text := err.Error(); text != e.failed {
			e.failed = text
			e.o.Log.Error("the alerts could not be saved: after a restart some are told again", "error", err)
		}
		return
	}
	e.failed, e.dirty, e.saved = "", false, up // only who has looking changes what is saved
}

// write replaces the file. One write that hangs is waited for by all that follow, so that no older content
// takes the place of a newer.
func (e *Evaluator) write(text []byte, most time.Duration) error {
	var over <-chan time.Time // never
	if most > 0 {
		t := time.NewTimer(most)
		defer t.Stop()
		over = t.C
	}
	select {
	case e.writing <- struct{}{}:
	case <-over:
		return errHangs
	}
	done := make(chan error, 1)
	go func() {
		done <- fsys.ReplaceOn(e.o.FS, e.file, text, 0o600)
		<-e.writing
	}()
	select {
	case err := <-done:
		return err
	case <-over:
		return errHangs
	}
}

// encode returns what the file is to have. mu is held.
func (e *Evaluator) encode() []byte {
	s := &saved{Up: e.up, Saved: e.now.UnixMilli(), Hosts: make(map[string]*seenHost, len(e.hosts))}
	for name, x := range e.hosts {
		if len(s.Hosts) == maxHosts {
			break
		}
		s.Hosts[toKey(name)] = x
	}
	for _, a := range e.alerts {
		if a.unsynced {
			c := *a
			c.ToldStart, c.ToldEnd, c.ToldAt = a.was.start, a.was.end, a.was.at
			a = &c
		}
		s.Alerts = append(s.Alerts, a)
	}
	return encode(s)
}

// toKey makes text of a host's name, which may be any bytes.
func toKey(name string) string {
	if utf8.ValidString(name) && (name == "" || name[0] != '"') {
		return name
	}
	return strconv.QuoteToASCII(name)
}

// fromKey is the reverse of toKey.
func fromKey(key string) (string, bool) {
	if key == "" || key[0] != '"' {
		return key, true
	}
	name, err := strconv.Unquote(key)
	return name, err == nil
}
