package last

import (
	"bytes"
	"container/list"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// types are the records that begin and end sessions.
var types = []uint32{
	uint32(tables.Login), uint32(tables.UserLogin), uint32(tables.UserEnd),
	uint32(tables.SystemBoot), uint32(tables.SystemShutdown), uint32(tables.DaemonStart),
}

// ending is how a session ended.
type ending uint8

const (
	open    ending = iota // it did not
	ended                 // logged out, or shut down
	crashed               // the system booted without having been shut down
	gone                  // its number was given to another one
)

// session is one login of a user, or one run of the system.
type session struct {
	boot    bool   // a run of the system
	login   bool   // USER_LOGIN was there: before that, nobody is told of it
	uid     uint32 // of the login, as pid and ses
	pid     uint32
	ses     uint32
	name    string
	tty     string
	host    string
	start   int64 // seconds since 1970
	end     int64
	ending  ending
	serials [3]uint64 // of what began it, told its terminal, and ended it; 0 without one
}

// host is what is known of one host. A log may have any number of logins without their ends, so
// each is found by its number.
type host struct {
	sessions list.List                // of *session, that are open, the oldest first
	by       map[uint32]*list.Element // the same by their numbers, of which each is one's
	kernel   string                   // its version, of the last DAEMON_START
}

// add adds a session, whose number no open one has.
func (h *host) add(one *session) {
	if h.by == nil {
		h.by = map[uint32]*list.Element{}
	}
	h.by[one.ses] = h.sessions.PushBack(one)
}

// remove takes a session off the list.
func (h *host) remove(at *list.Element) *session {
	one := h.sessions.Remove(at).(*session)
	delete(h.by, one.ses)
	return one
}

// Sessions follows the logins in a log. One goroutine may use it.
type Sessions struct {
	o     *Options
	in    *interpret.Interpreter
	words words
	buf   []byte
	hosts map[string]*host
	order []*host // by their first event
	names map[*host]string
	errs  io.Writer
	w     writer
}

// NewSessions returns a Sessions that writes to out, times in loc, and to errs for
// --debug.
func NewSessions(o *Options, loc *time.Location, out, errs io.Writer) *Sessions {
	return &Sessions{
		o: o, in: interpret.New(interpret.Config{Names: o.Names}), hosts: map[string]*host{}, names: map[*host]string{}, errs: errs,
		w: writer{o: o, out: out, loc: loc, now: o.Now.Unix()},
	}
}

// Record takes the next record, of the host called node.
func (s *Sessions) Record(node []byte, r *record.Record) error {
	if !slices.Contains(types, uint32(r.Type)) {
		return nil
	}
	h := s.host(node)
	s.words.load(r)
	s.in.Host(node)
	s.w.node = s.names[h]
	switch r.Type {
	case tables.DaemonStart:
		if v := s.words.find("kernel"); v != nil {
			h.kernel = string(v)
		}
	case tables.Login:
		s.begin(h, r)
	case tables.UserLogin:
		s.userLogin(h, r)
	case tables.UserEnd:
		s.logout(h, r)
	case tables.SystemBoot:
		s.boot(h, r)
	case tables.SystemShutdown:
		s.shutdown(h, r)
	}
	s.w.extract(r)
	return s.w.err
}

// Close writes the sessions that are open.
func (s *Sessions) Close() error {
	for _, h := range s.order {
		s.w.node = s.names[h]
		for at := h.sessions.Front(); at != nil; at = at.Next() {
			s.report(at.Value.(*session))
		}
	}
	return s.w.err
}

// debugf says for --debug why an event changes nothing.
func (s *Sessions) debugf(format string, args ...any) {
	if s.o.Debug {
		fmt.Fprintf(s.errs, format, args...)
	}
}

// host returns the host that an event is of. Each has sessions of its own: their numbers
// say nothing about another's.
func (s *Sessions) host(node []byte) *host {
	if h, ok := s.hosts[string(node)]; ok {
		return h
	}
	h := &host{}
	s.hosts[string(node)], s.names[h] = h, string(node)
	s.order = append(s.order, h)
	return h
}

// report writes a session, if it is of those that are asked for.
func (s *Sessions) report(one *session) {
	if s.o.Bad || !one.login && !one.boot {
		return
	}
	s.w.session(one)
}

// begin is LOGIN: the kernel gives a process a login id and a session.
func (s *Sessions) begin(h *host, r *record.Record) {
	one := &session{pid: s.words.number("pid"), uid: unset, ses: unset, start: r.Sec, serials: [3]uint64{r.Serial}}
	if s.words.find("old-auid") == nil {
		s.words.rewind()
		s.words.find("auid") // the one before, of kernels that gave both one name
	}
	s.words.skip()
	one.uid = s.words.number("auid")
	one.name = s.interpreted()
	if s.words.find("old-ses") == nil {
		s.words.rewind()
		s.words.find("ses")
	}
	s.words.skip()
	one.ses = s.words.number("ses")
	if one.pid == unset || one.uid == unset || one.ses == unset {
		s.debugf("Bad login for event: %d\n", r.Serial)
		return
	}
	if at := h.by[one.ses]; at != nil {
		s.finish(h, at, gone, r.Sec, 0)
	}
	if s.o.HasUser && s.o.User != one.name {
		s.debugf("login reporting limited to %s for event: %d\n", s.o.User, r.Serial)
		return
	}
	h.add(one)
}

// finish takes a session off the list and writes it.
func (s *Sessions) finish(h *host, which *list.Element, how ending, at int64, serial uint64) {
	one := h.remove(which)
	one.ending, one.end, one.serials[2] = how, at, serial
	s.report(one)
}

// interpreted returns the present field in words.
func (s *Sessions) interpreted() string {
	if s.words.at >= len(s.words.list) {
		return ""
	}
	f := s.words.list[s.words.at]
	s.in.Refresh()
	s.buf = s.in.AppendRaw(s.buf[:0], s.words.r, f.name, f.value)
	return string(s.buf)
}

// userLogin is USER_LOGIN: the program that has logged somebody in, or has not, says where
// they are.
func (s *Sessions) userLogin(h *host, r *record.Record) {
	w := &s.words
	pid, ses := w.number("pid"), w.number("ses")
	var uid uint32
	if w.find("uid") != nil {
		uid = w.number("uid") // sshd of old: a second one, in its own text
	} else {
		w.rewind()
		uid = w.number("id")
		w.rewind()
	}
	from := w.find("hostname")
	if string(from) == "?" {
		from = w.find("addr")
	}
	tty := bytes.TrimPrefix(w.find("terminal"), []byte("/dev/"))
	result := w.find("res")
	switch {
	case result != nil && string(result) != "success":
		s.badLogin(r, uid, from, tty)
	case pid == unset || ses == unset || uid == unset:
		s.debugf("Bad user login for event: %d\n", r.Serial)
	case result == nil:
		s.w.notFound()
	default:
		at := h.find(uid, pid, ses)
		if at == nil {
			s.w.notFound()
			break
		}
		if !bytes.Contains(tty, []byte(s.o.TTY)) {
			s.debugf("User login limited to %s for event: %d\n", s.o.TTY, r.Serial)
			h.remove(at)
			break
		}
		one := at.Value.(*session)
		one.login, one.host, one.tty = true, string(from), string(tty)
		one.serials[1] = r.Serial
	}
}

func (h *host) find(uid, pid, ses uint32) *list.Element {
	at := h.by[ses]
	if at == nil {
		return nil
	}
	if one := at.Value.(*session); one.uid != uid || one.pid != pid {
		return nil
	}
	return at
}

// badLogin is a USER_LOGIN that failed: a session that ends when it begins.
func (s *Sessions) badLogin(r *record.Record, uid uint32, from, tty []byte) {
	if !s.o.Bad {
		s.w.notFound()
		return
	}
	s.words.rewind()
	one := &session{uid: uid, tty: string(tty), host: string(from), start: r.Sec, end: r.Sec, ending: ended, serials: [3]uint64{r.Serial}}
	known := s.words.find("acct") != nil
	if known {
		one.name = s.interpreted()
	}
	s.w.bad(one, known)
}

// logout is USER_END.
func (s *Sessions) logout(h *host, r *record.Record) {
	pid, uid, ses := s.words.number("pid"), s.words.number("auid"), s.words.number("ses")
	if pid == unset || uid == unset || ses == unset {
		s.debugf("Bad user logout for event: %d\n", r.Serial)
		return
	}
	if at := h.find(uid, pid, ses); at != nil {
		s.finish(h, at, ended, r.Sec, r.Serial)
	}
}

// boot is SYSTEM_BOOT. What is open then was not shut down.
func (s *Sessions) boot(h *host, r *record.Record) {
	for h.sessions.Len() > 0 {
		s.finish(h, h.sessions.Front(), crashed, r.Sec, r.Serial)
	}
	h.add(&session{
		boot: true, name: "reboot", tty: "system boot", host: h.kernel, start: r.Sec, serials: [3]uint64{r.Serial},
	})
}

// shutdown is SYSTEM_SHUTDOWN, which ends the oldest session: that of the system, where
// the log has its boot.
func (s *Sessions) shutdown(h *host, r *record.Record) {
	if at := h.sessions.Front(); at != nil {
		s.finish(h, at, ended, r.Sec, r.Serial)
	}
}
