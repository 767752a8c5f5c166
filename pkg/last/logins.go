package last

import (
	"bytes"
	"fmt"
	"io"
	"time"

	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/nss"
	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// loginTypes are the records that say that somebody logged in.
var loginTypes = []uint32{uint32(tables.UserLogin)}

// lastLogin is what is known of an account's last login.
type lastLogin struct {
	name, node string
	id         uint32
	at         int64 // seconds since 1970; 0 without one
	tty, host  string
}

// Logins finds out when accounts last logged in. One goroutine may use it.
type Logins struct {
	o     *LoginOptions
	list  []*lastLogin
	byID  map[loginKey]*lastLogin
	in    *interpret.Interpreter
	words words
	buf   []byte
}

// loginKey is an account: an id means another one on each host.
type loginKey struct {
	node string
	id   uint32
}

// NewLogins returns a Logins of some accounts of one machine; nil stands for the accounts
// that the records name, of each host.
func NewLogins(o *LoginOptions, accounts []nss.Account) *Logins {
	l := &Logins{o: o, byID: map[loginKey]*lastLogin{}}
	if o.Hosts {
		l.in = interpret.New(interpret.Config{Names: o.Names})
		return l
	}
	for _, a := range accounts {
		if o.HasUser && a.Name != o.User {
			continue
		}
		one := &lastLogin{name: a.Name, id: a.ID}
		l.list = append(l.list, one)
		if key := (loginKey{id: a.ID}); l.byID[key] == nil { // of two with one id, the first
			l.byID[key] = one
		}
	}
	return l
}

// Record takes the next record, of the host called node.
func (l *Logins) Record(node []byte, r *record.Record) error {
	if r.Type != tables.UserLogin {
		return nil
	}
	w := &l.words
	w.load(r)
	if string(w.find("res")) != "success" {
		return nil
	}
	w.rewind()
	one := l.account(node, w.number("auid"))
	if one == nil {
		return nil
	}
	one.at = r.Sec
	if v := w.find("hostname"); v != nil {
		one.host = string(v)
	}
	if v := w.find("terminal"); v != nil {
		one.tty = string(v)
	}
	return nil
}

// account returns the account with an id, which is the present field; nil where nobody
// asks for it.
func (l *Logins) account(node []byte, id uint32) *lastLogin {
	if !l.o.Hosts {
		return l.byID[loginKey{id: id}]
	}
	key := loginKey{string(node), id}
	one := l.byID[key]
	if one == nil && id != unset {
		one = &lastLogin{node: key.node, id: id}
		l.byID[key] = one
		l.list = append(l.list, one)
	}
	if one != nil {
		one.name = l.name(node)
	}
	return one
}

// name returns the present field, an id, in words.
func (l *Logins) name(node []byte) string {
	f := l.words.list[l.words.at]
	l.in.Host(node)
	l.in.Refresh()
	l.buf = l.in.AppendRaw(l.buf[:0], l.words.r, f.name, f.value)
	return string(bytes.Clone(l.buf))
}

// Write writes the list.
func (l *Logins) Write(out io.Writer, loc *time.Location) error {
	host := func(name string) string {
		if !l.o.Hosts {
			return ""
		}
		return column(name, 16) + " "
	}
	if _, err := fmt.Fprintf(out, "%sUsername         Port         From                       Latest\n", host("Host")); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	for _, one := range l.sorted() {
		when := "**Never logged in**"
		if one.at != 0 {
			when = string(output.AppendDate(nil, l.o.Locale, time.Unix(one.at, 0).In(loc)))
		}
		if _, err := fmt.Fprintf(out, "%s%s %s %s %s\n", host(one.node), pad(one.name, 16), column(one.tty, 12), column(one.host, 26), when); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	return nil
}
