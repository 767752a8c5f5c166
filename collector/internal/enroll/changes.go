package enroll

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/pki/authority"
)

const (
	// SeenFile is the file in the store's folder that says what of the CA is on record.
	SeenFile = "ca.seen"

	seenHeader = "auditfleet-ca-seen 1 "
	lookEvery  = time.Second
	// mostALook bounds how many changes are told at once; the rest follow.
	mostALook = 256
)

// seen are the changes of a CA that have been told. Each has a key.
type seen struct {
	mu    sync.Mutex
	keys  map[string]bool // guarded by mu
	gone  map[string]bool // guarded by mu: those that were not listed at the last look
	fresh bool            // guarded by mu: some are not in the file
}

func (s *seen) add(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil {
		s.keys = map[string]bool{}
	}
	s.keys[key], s.fresh = true, true
}

func (s *seen) has(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys[key]
}

// forget drops the keys of what is not listed any more, at the second look that finds it so: what this process issues may
// be told before the list was read that has it.
func (s *seen) forget(list []change) {
	listed := make(map[string]bool, len(list))
	for _, c := range list {
		listed[c.key] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	gone := map[string]bool{}
	for key := range s.keys {
		switch {
		case listed[key]:
		case s.gone[key]:
			delete(s.keys, key)
			s.fresh = true
		default:
			gone[key] = true
		}
	}
	s.gone = gone
}

// Watch tells what is done to the CA by commands (collector token, collector ca), which run
// without this process: it looks into the CA's folder each second, until ctx ends. What it
// has told is kept in a file, so that a change while no collector ran is told by the next
// one, once. A change is told at the second look that sees it: what this process does itself
// it tells itself. It is called once.
func (s *Server) Watch(ctx context.Context, file string) {
	w := &watch{Server: s, file: file, pending: map[string]bool{}}
	w.read()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			w.keep()
			return
		case <-tick.C:
			w.keep() // what was told a second ago is stored by now
			w.look()
		}
	}
}

// watch is Watch's.
type watch struct {
	*Server
	file    string
	pending map[string]bool // seen once
	stamps  [2]string       // of the files, as they were when nothing was left to tell
	failing bool
}

// change is an entry of the CA's files, and its key.
type change struct {
	key string
	Event
}

// look tells what is new.
func (w *watch) look() {
	var stamps [2]string
	for i, name := range []string{authority.IndexFile, authority.TokensFile} {
		if info, err := os.Stat(filepath.Join(w.CA.Dir(), name)); err == nil {
			stamps[i] = fmt.Sprint(info.ModTime().UnixNano(), info.Size(), inode(info))
		}
	}
	if stamps == w.stamps && len(w.pending) == 0 {
		return
	}
	list, err := w.changes()
	if err != nil {
		if !w.failing {
			w.Log.Warn("what is done to the CA by commands is not on record: its files can't be read", "error", err)
		}
		w.failing = true
		return
	}
	w.failing = false
	told := 0
	before := w.pending
	w.pending = map[string]bool{}
	for _, c := range list {
		switch {
		case w.seen.has(c.key):
		case !before[c.key] || told == mostALook:
			w.pending[c.key] = true
		default:
			told++
			w.seen.add(c.key)
			w.Report(c.Event)
		}
	}
	w.stamps = stamps
	w.seen.forget(list)
}

// changes returns all that the CA's files say was done.
func (w *watch) changes() (list []change, err error) {
	certs, err := w.CA.List()
	if err != nil {
		return nil, err
	}
	tokens, err := w.CA.Tokens()
	if err != nil {
		return nil, err
	}
	for _, t := range tokens {
		ev := Event{Op: TokenCreated, Host: t.Host, Token: t.ID}
		list = append(list, change{"token " + t.ID, ev})
		if !t.Revoked.IsZero() {
			ev.Op = TokenRevoked
			list = append(list, change{"revoked-token " + t.ID, ev})
		}
	}
	used := map[string]string{}
	for _, t := range tokens {
		if t.Serial != "" {
			used[t.Serial] = t.ID
		}
	}
	for _, c := range certs {
		ev := Event{Op: CertIssued, Host: c.Name, Serial: c.Serial, Fingerprint: c.Fingerprint, Token: used[c.Serial]}
		list = append(list, change{"certificate " + c.Serial, ev})
		if !c.Revoked.IsZero() {
			ev.Op = CertRevoked
			list = append(list, change{"revoked-certificate " + c.Serial, ev})
		}
	}
	return list, nil
}

// read takes over what earlier runs have told. What can't be read is told again.
func (w *watch) read() {
	b, err := os.ReadFile(w.file)
	if os.IsNotExist(err) {
		return
	}
	at := bytes.LastIndexByte(bytes.TrimSuffix(b, []byte("\n")), '\n') + 1
	text, ok := strings.CutPrefix(string(b[:at]), seenHeader+w.CA.Fingerprint()+"\n")
	if err != nil || !ok || string(b[at:]) != sum(b[:at]) {
		w.Log.Warn("what of the CA is on record already can't be read: all of it is recorded again", "file", w.file, "error", err)
		return
	}
	for line := range strings.Lines(text) {
		w.seen.add(strings.TrimSuffix(line, "\n"))
	}
	w.seen.mu.Lock()
	w.seen.fresh = false
	w.seen.mu.Unlock()
}

func sum(b []byte) string {
	return fmt.Sprintf("%08x\n", crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

// keep writes what was told.
func (w *watch) keep() {
	w.seen.mu.Lock()
	if !w.seen.fresh {
		w.seen.mu.Unlock()
		return
	}
	keys := make([]string, 0, len(w.seen.keys))
	for key := range w.seen.keys {
		keys = append(keys, key)
	}
	w.seen.fresh = false
	w.seen.mu.Unlock()
	slices.Sort(keys)
	text := []byte(seenHeader + w.CA.Fingerprint() + "\n")
	for _, key := range keys {
		text = append(append(text, key...), '\n')
	}
	if err := fsys.Replace(w.file, append(text, sum(text)...), 0o600, true); err != nil {
		w.Log.Warn("what of the CA is on record can't be kept: the next start records it again", "error", err)
	}
}

func inode(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}
