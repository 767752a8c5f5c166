package selfaudit

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/pkg/daemonrec"
)

// Bounds of what callers choose, in bytes before they are encoded: a record with all of them
// in hex fits into a message of the audit protocol.
const (
	maxCommand = 2 << 10
	maxHosts   = 512
	maxReason  = 300
	maxTitle   = 256
)

// Names finds the names of users; it must not wait for long.
type Names interface {
	User(uid uint32) (string, bool)
}

// Asked stores who asked what of the query service, and what became of it: a USER_CMD, as sudo
// writes of a command, so that every tool says who ran it. It returns the serial of the record; 0
// where there is none because the caller has had enough of them in this minute. How many these
// are is said at the minute's end.
func (r *Records) Asked(a *api.Asked) (serial uint64) {
	text := r.askedText(a)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.asked.may(r, a, len(text)) {
		return 0
	}
	return r.add("USER_CMD", "%s", text)
}

// askedText is the text of such a record behind its stamp. What comes from others is encoded as the
// kernel does it.
func (r *Records) askedText(a *api.Asked) string {
	var b strings.Builder
	command := a.Command
	if a.Who.Name != "" { // nobody has an account by which he is named, so that the command names him
		command = "certificate " + a.Who.Name + ": " + command
	}
	command, cut := short(command, maxCommand)
	fmt.Fprintf(&b, "msg='op=%s cmd=%s", a.Op, encodeName(command))
	if cut || a.Bytes > len(a.Command) {
		fmt.Fprintf(&b, " cmd_bytes=%d", a.Bytes)
	}
	if a.Told {
		b.WriteString(" told=yes")
	}
	if len(a.Hosts) > 0 {
		fmt.Fprintf(&b, " hosts=%s", encodeName(someHosts(a.Hosts)))
	}
	if a.Since != 0 || a.Until != 0 {
		fmt.Fprintf(&b, " since=%s until=%s", stamp(a.Since), stamp(a.Until))
	}
	fmt.Fprintf(&b, " state=%s", a.State)
	if a.State != api.StateBegun && a.State != api.StateRefused {
		if !a.Told {
			fmt.Fprintf(&b, " results=%d bytes=%d", a.Results, a.Sent)
		}
		fmt.Fprintf(&b, " ms=%d", a.Took.Milliseconds())
	}
	if a.Exit != nil {
		fmt.Fprintf(&b, " exit=%d", *a.Exit)
	}
	if a.Reason != "" {
		reason, _ := short(strings.TrimSpace(a.Reason), maxReason)
		fmt.Fprintf(&b, " reason=%s", encodeName(reason))
	}
	res := "success"
	if !a.State.Good() {
		res = "failed"
	}
	return r.from(&a.Who, b.String(), res)
}

// from is a record's text with who has caused it, around what he did.
func (r *Records) from(w *api.Who, what, res string) string {
	pid, uid := strconv.Itoa(int(w.PID)), strconv.FormatUint(uint64(w.UID), 10)
	if w.PID <= 0 {
		pid = daemonrec.Unset
	}
	var b strings.Builder
	fmt.Fprintf(&b, "pid=%s uid=%s auid=%s ses=%s %s", pid, uid, w.AUID, w.Session, what)
	if len(w.Title) > 0 {
		fmt.Fprintf(&b, " proctitle=%s", encodeTitle(w.Title))
	}
	if w.Name != "" {
		fmt.Fprintf(&b, " auth=cert serial=%s acct=%s", w.Serial, encodeName(w.Name))
	}
	addr := "?"
	if w.Addr.IsValid() {
		addr = address(w.Addr.Addr())
	}
	fmt.Fprintf(&b, " exe=%s hostname=? addr=%s terminal=? res=%s'\x1dUID=%s AUID=%s", r.exe, addr, res, r.account(uid), r.account(w.AUID))
	return b.String()
}

// account is the name of an id, as the tail of an enriched record has it.
func (r *Records) account(id string) string {
	if id == daemonrec.Unset {
		return `"unset"`
	}
	if n, err := strconv.ParseUint(id, 10, 32); err == nil && r.cfg.Names != nil {
		if name, ok := r.cfg.Names.User(uint32(n)); ok {
			return encodeName(name)
		}
	}
	return `"unknown(` + id + `)"`
}

// encodeTitle encodes a command line whose words have NUL between them as the kernel does:
// in hex as soon as there are two.
func encodeTitle(title []byte) string {
	title = title[:min(len(title), maxTitle)]
	if bytes.IndexByte(title, 0) < 0 {
		return encodeName(string(title))
	}
	return strings.ToUpper(hex.EncodeToString(title))
}

// short cuts a text.
func short(s string, most int) (_ string, cut bool) {
	if len(s) <= most {
		return s, false
	}
	return s[:most], true
}

// someHosts are names with commas between them, and how many more there are.
func someHosts(names []string) string {
	var b strings.Builder
	for i, name := range names {
		if b.Len()+len(name) > maxHosts {
			if i == 0 {
				name, _ = short(name, maxHosts)
				b.WriteString(name)
				i++
			}
			if i < len(names) {
				fmt.Fprintf(&b, ",+%d", len(names)-i)
			}
			break
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(name)
	}
	return b.String()
}

// stamp is a time that was asked for: in UTC, "?" for none.
func stamp(ms int64) string {
	if ms == 0 {
		return "?"
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
}
