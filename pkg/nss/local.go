package nss

import (
	"bytes"
	"io"
	"os"
	"strconv"
	"time"
)

// The files of a System.
const (
	passwd = iota
	group
	protocols
	nsswitch
	fileCount
)

// recheck is how long a changed file may go unnoticed.
const recheck = time.Second

// maxFile bounds what is read of one file.
const maxFile = 64 << 20

// local is what the files say. It is not changed once it is made.
type local struct {
	checked time.Time
	stamps  [fileCount]stamp
	names   [3]map[uint32]string
	ids     [2]map[string]uint32
	plans   [2]plan
}

type stamp struct {
	size int64
	mod  time.Time
}

// Refresh checks whether the files have changed, at most once a second, and reads them
// again then. An Interpreter calls it once a record, so that a lookup itself never checks.
func (s *System) Refresh() { s.refresh() }

func (s *System) refresh() *local {
	now := s.cfg.Now()
	old := s.local.Load()
	if old != nil && now.Sub(old.checked) < recheck && !now.Before(old.checked) {
		return old
	}
	fresh := &local{checked: now}
	for i, path := range s.cfg.files {
		if fi, err := os.Stat(path); err == nil {
			fresh.stamps[i] = stamp{fi.Size(), fi.ModTime()}
		}
	}
	same := func(file int) bool { return old != nil && fresh.stamps[file] == old.stamps[file] }
	for i := range fresh.names {
		if same(i) {
			fresh.names[i] = old.names[i]
			if i < len(fresh.ids) {
				fresh.ids[i] = old.ids[i]
			}
			continue
		}
		names, ids := readNames(s.cfg.files[i], i == protocols)
		fresh.names[i] = names
		if i < len(fresh.ids) {
			fresh.ids[i] = ids
		}
	}
	if same(nsswitch) && same(passwd) && same(group) {
		fresh.plans = old.plans
	} else {
		text := readFile(s.cfg.files[nsswitch])
		for i, database := range databases {
			fresh.plans[i] = parseSwitch(text, database, func() bool { return handsOn(readFile(s.cfg.files[i])) })
		}
		if old != nil && !same(nsswitch) {
			s.directory.forget()
		}
	}
	s.local.Store(fresh)
	return fresh
}

// readFile returns nothing for a file that cannot be read, or is too big to be one.
func readFile(path string) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil || len(b) > maxFile {
		return nil
	}
	return b
}

// handsOn reports whether a file has lines such as "+::::::", which the source
// compat takes as an order to ask NIS.
func handsOn(text []byte) bool {
	for line := range bytes.Lines(text) {
		if line[0] == '+' || line[0] == '-' {
			return true
		}
	}
	return false
}

// readNames reads a file of NAME:x:ID:… or, of /etc/protocols, NAME ID lines. A
// file that cannot be read has no names.
func readNames(path string, protocols bool) (names map[uint32]string, ids map[string]uint32) {
	names, ids = map[uint32]string{}, map[string]uint32{}
	for line := range bytes.Lines(readFile(path)) {
		var name, id []byte
		if protocols {
			line, _, _ = bytes.Cut(line, []byte("#"))
			f := bytes.Fields(line)
			if len(f) < 2 {
				continue
			}
			name, id = f[0], f[1]
		} else {
			f := bytes.SplitN(bytes.TrimSpace(line), []byte(":"), 4)
			if len(f) < 3 || len(f[0]) == 0 || f[0][0] == '#' || f[0][0] == '+' || f[0][0] == '-' {
				continue
			}
			name, id = f[0], f[2]
		}
		n, err := strconv.ParseUint(string(id), 10, 32)
		if err != nil {
			continue
		}
		if _, ok := names[uint32(n)]; !ok {
			names[uint32(n)] = string(name)
		}
		if _, ok := ids[string(name)]; !ok {
			ids[string(name)] = uint32(n)
		}
	}
	return names, ids
}
