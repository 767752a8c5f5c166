package nss

import (
	"sync/atomic"
	"time"
)

// databases are those that are looked up, by their file's number.
var databases = [2]string{passwd: "passwd", group: "group"}

// Config configures New. The zero value suits a command whose user waits for its output.
type Config struct {
	// Wait is the longest that a lookup keeps its caller: the answer then is that
	// there is no name, and the next one to ask gets what came meanwhile. 0: 5 s.
	Wait time.Duration
	// Share is how much of the time may be waiting, 0: all of it. A caller that has
	// used up its share is answered at once; four times Wait may be saved up.
	Share float64
	Now   func() time.Time // nil: time.Now
	// Warn is told, at most once a minute, when names can't be found; nil: nobody.
	Warn func(msg string, args ...any)

	files   [fileCount]string
	ask     func(d *directory, database int, keys []key) ([]answer, error) // nil: the system's
	getents []string
	socket  string
	limit   time.Duration
}

// System finds the names of this machine's users, groups and protocols. It is safe for
// concurrent use.
type System struct {
	cfg       Config
	local     atomic.Pointer[local]
	directory *directory
}

// New returns a System. It reads the files when they are first needed, and again when they
// have changed.
func New(cfg Config) *System {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Wait == 0 {
		cfg.Wait = 5 * time.Second
	}
	if cfg.files == [fileCount]string{} {
		cfg.files = [fileCount]string{"/etc/passwd", "/etc/group", "/etc/protocols", "/etc/nsswitch.conf"}
	}
	if cfg.getents == nil {
		cfg.getents = []string{"/usr/bin/getent", "/bin/getent", "/run/current-system/sw/bin/getent"}
	}
	if cfg.socket == "" {
		cfg.socket = "/run/systemd/userdb/io.systemd.Multiplexer"
	}
	if cfg.limit == 0 {
		cfg.limit = helperTime
	}
	if cfg.ask == nil {
		cfg.ask = (*directory).askSystem
	}
	s := &System{cfg: cfg}
	s.directory = newDirectory(&s.cfg)
	return s
}

// User returns the name of the account with that id.
func (s *System) User(uid uint32) (string, bool) { return s.name(passwd, uid) }

// Group returns the name of the group with that id.
func (s *System) Group(gid uint32) (string, bool) { return s.name(group, gid) }

// UserID returns the id of the account with that name.
func (s *System) UserID(name string) (uint32, bool) { return s.id(passwd, name) }

// GroupID returns the id of the group with that name.
func (s *System) GroupID(name string) (uint32, bool) { return s.id(group, name) }

// Protocol returns the name of the IP protocol n from /etc/protocols; false when it has none.
func (s *System) Protocol(n uint16) (string, bool) {
	name, ok := s.loaded().names[protocols][uint32(n)]
	return name, ok
}

// Close ends the helpers that still run and waits for them. Afterwards the System answers
// only from what it knows already.
func (s *System) Close() { s.directory.close() }

func (s *System) loaded() *local {
	if l := s.local.Load(); l != nil {
		return l
	}
	return s.refresh()
}

// noID is no account's: (uid_t)-1, which records have for "unset".
const noID = ^uint32(0)

func (s *System) name(database int, id uint32) (string, bool) {
	l := s.loaded()
	name, ok := l.names[database][id]
	p := l.plans[database]
	if ok && p.localFirst || len(p.others) == 0 || id == noID {
		return name, ok
	}
	switch a := s.directory.find(key{database: database, id: id}, p); a.state {
	case found:
		return a.name, true
	case absent:
		return "", false
	}
	return name, ok // nobody answered: what this machine knows itself
}

func (s *System) id(database int, name string) (uint32, bool) {
	l := s.loaded()
	id, ok := l.ids[database][name]
	p := l.plans[database]
	if ok && p.localFirst || len(p.others) == 0 || !askable(name) {
		return id, ok
	}
	switch a := s.directory.find(key{database: database, name: name}, p); a.state {
	case found:
		return a.id, true
	case absent:
		return 0, false
	}
	return id, ok
}

// Stats counts the lookups beyond the local files, since New.
type Stats struct {
	Found      uint64 // names that were found
	Absent     uint64 // there is no such account
	Failed     uint64 // no answer, or none that makes sense
	TimedOut   uint64 // helpers that were ended because they took too long
	Unanswered uint64 // answers given without a name while one was looked for
}

// Results returns the names of the counts of lookups that have ended.
func Results() []string { return []string{"found", "absent", "failed", "timeout"} }

// Stats returns the present counts.
func (s *System) Stats() Stats {
	d := s.directory
	return Stats{d.found.Load(), d.absent.Load(), d.failed.Load(), d.timedOut.Load(), d.unanswered.Load()}
}

// Result returns the count with a name that Results returns.
func (s Stats) Result(name string) uint64 {
	switch name {
	case "found":
		return s.Found
	case "absent":
		return s.Absent
	case "failed":
		return s.Failed
	case "timeout":
		return s.TimedOut
	}
	return 0
}
