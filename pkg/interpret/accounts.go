package interpret

import (
	"bytes"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

// Names says who and what a number is. Its methods must not wait on a network.
type Names interface {
	User(uid uint32) (string, bool)
	Group(gid uint32) (string, bool)
	Protocol(n uint16) (string, bool)
}

// System is this machine's Names, from /etc/passwd, /etc/group and
// /etc/protocols, which are read again when they have changed. Accounts of
// directory services are not in it. It is safe for concurrent use.
type System struct {
	files   [3]string
	now     func() time.Time
	current atomic.Pointer[accounts]
}

// recheck is how long a changed file may go unnoticed.
const recheck = time.Second

// maxAccounts bounds what is read of one file.
const maxAccounts = 64 << 20

type accounts struct {
	checked time.Time
	stamps  [3]stamp
	names   [3]map[uint32]string
	users   map[string]uint32
}

type stamp struct {
	size int64
	mod  time.Time
}

// NewSystem returns this machine's Names. now is its clock; nil is time.Now.
func NewSystem(now func() time.Time) *System {
	return newSystem([3]string{"/etc/passwd", "/etc/group", "/etc/protocols"}, now)
}

func newSystem(files [3]string, now func() time.Time) *System {
	if now == nil {
		now = time.Now
	}
	return &System{files: files, now: now}
}

// User returns the name of the first account with that id.
func (s *System) User(uid uint32) (string, bool) { return s.lookup(0, uid) }

// Group returns the name of the first group with that id.
func (s *System) Group(gid uint32) (string, bool) { return s.lookup(1, gid) }

// Protocol returns the name of the IP protocol n.
func (s *System) Protocol(n uint16) (string, bool) { return s.lookup(2, uint32(n)) }

func (s *System) lookup(file int, id uint32) (string, bool) {
	a := s.current.Load()
	if a == nil {
		a = s.refresh()
	}
	name, ok := a.names[file][id]
	return name, ok
}

// UserID returns the id of the first account with that name.
func (s *System) UserID(name string) (uint32, bool) {
	a := s.current.Load()
	if a == nil {
		a = s.refresh()
	}
	uid, ok := a.users[name]
	return uid, ok
}

// Refresh looks whether the files have changed, at most once a second. An
// Interpreter calls it once a record, so that lookups themselves cost nothing
// but the lookup.
func (s *System) Refresh() { s.refresh() }

func (s *System) refresh() *accounts {
	now := s.now()
	old := s.current.Load()
	if old != nil && now.Sub(old.checked) < recheck && !now.Before(old.checked) {
		return old
	}
	fresh := &accounts{checked: now}
	for i, path := range s.files {
		if fi, err := os.Stat(path); err == nil {
			fresh.stamps[i] = stamp{fi.Size(), fi.ModTime()}
		}
		if old != nil && fresh.stamps[i] == old.stamps[i] {
			fresh.names[i] = old.names[i]
			if i == 0 {
				fresh.users = old.users
			}
			continue
		}
		var ids map[string]uint32
		fresh.names[i], ids = readNames(path, i == 2)
		if i == 0 {
			fresh.users = ids
		}
	}
	s.current.Store(fresh)
	return fresh
}

// readNames reads a file of NAME:x:ID:… or, of /etc/protocols, NAME ID lines. A
// file that cannot be read has no names.
func readNames(path string, protocols bool) (names map[uint32]string, ids map[string]uint32) {
	names, ids = map[uint32]string{}, map[string]uint32{}
	fi, err := os.Stat(path)
	if err != nil || fi.Size() > maxAccounts {
		return names, ids
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return names, ids
	}
	for line := range bytes.Lines(b) {
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
