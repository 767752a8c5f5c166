package output

import (
	"bytes"
	"strconv"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/record"
)

// Records whose sentence depends on more than their type.

// appendLogin appends the login id that a process was given. Old kernels name old and new
// alike, in this order.
func (f *lineFormat) appendLogin(dst []byte, r *record.Record, o outcome) []byte {
	var ids, sessions []record.Field
	fields := r.Fields()
	for field, ok := fields.Next(); ok; field, ok = fields.Next() {
		switch string(field.Name) {
		case "old-auid":
			ids = append([]record.Field{field}, ids...)
		case "auid":
			ids = append(ids, field)
		case "ses":
			sessions = append(sessions, field)
		}
	}
	dst = f.verb(dst, o, "set the login id", "set the login id")
	if pid, ok := f.own(r, "pid"); ok {
		dst = f.appendValue(append(dst, " of process "...), r, &pid)
	}
	if n := len(ids); n > 0 {
		if n > 1 {
			dst = f.appendValue(append(dst, " from "...), r, &ids[0])
		}
		dst = f.appendValue(append(dst, " to "...), r, &ids[n-1])
	}
	if n := len(sessions); n > 0 {
		dst = f.appendValue(append(dst, ", session "...), r, &sessions[n-1])
	}
	return dst
}

// appendConfigChange appends what became of a rule or of a setting of audit.
func (f *lineFormat) appendConfigChange(dst []byte, r *record.Record, o outcome) []byte {
	op := strings.ReplaceAll(string(operation(r)), " ", "_")
	switch {
	case strings.HasPrefix(op, "add_rule"):
		return f.appendPhrase(dst, r, o, "added an audit rule|add an audit rule|"+ruleDetails)
	case strings.HasPrefix(op, "remove_rule"), strings.HasPrefix(op, "remove"), strings.HasPrefix(op, "autoremove"):
		return f.appendPhrase(dst, r, o, "removed an audit rule|remove an audit rule|"+ruleDetails)
	case strings.HasPrefix(op, "updated_rules"):
		return f.appendPhrase(dst, r, o, "updated the audit rules|update the audit rules|"+ruleDetails)
	}
	fields := r.Fields()
	for field, ok := fields.Next(); ok; field, ok = fields.Next() {
		name := string(field.Name)
		if saidElsewhere(name) || strings.HasPrefix(name, "old") || name == "op" || name == "key" || name == "list" {
			continue
		}
		switch name {
		case "lost":
			dst = f.verb(dst, o, "set the kernel's count of lost records", "set the kernel's count of lost records")
		default:
			dst = appendQuoted(append(f.verb(dst, o, "set", "set"), ' '), field.Name, longestArgument)
		}
		dst = f.appendValue(append(dst, " to "...), r, &field)
		for _, was := range [...]string{"old", "old-" + name, "old_" + name} {
			if old, ok := f.own(r, was); ok {
				return append(f.appendValue(append(dst, " (it was "...), r, &old), ')')
			}
		}
		return dst
	}
	return f.appendPhrase(dst, r, o, "changed the audit configuration|change the audit configuration|[: <op>]"+ruleDetails)
}

const ruleDetails = "[ with key <key>][ on <path,dir>][ in list <list>]"

// appendSeccomp appends what a seccomp filter did about a system call.
func (f *lineFormat) appendSeccomp(dst []byte, r *record.Record) []byte {
	code, ok := f.own(r, "code")
	if ok {
		f.value = f.in.AppendValue(f.value[:0], r, code)
	}
	done := "made a call that seccomp filters:|[ <syscall>]"
	for _, w := range [...]struct{ code, done string }{
		{"kill", "was killed by seccomp|[ for the call <syscall>]"}, {"trap", "was sent a signal by seccomp|[ for the call <syscall>]"},
		{"errno", "was refused by seccomp|[ for the call <syscall>]"}, {"user-notify", "was held by seccomp for a supervisor|[ at the call <syscall>]"},
		{"trace", "was held by seccomp for a tracer|[ at the call <syscall>]"}, {"log", "was noticed by seccomp|[ for the call <syscall>]"},
		{"allow", "was let by seccomp|[ make the call <syscall>]"},
	} {
		if ok && bytes.HasPrefix(f.value, []byte(w.code)) {
			done = w.done
			f.bad = f.bad || w.code == "kill" || w.code == "trap" || w.code == "errno"
		}
	}
	return f.appendPhrase(dst, r, unknownOutcome, done)
}

// appendSoftware appends which software was installed, updated or removed: op says which.
func (f *lineFormat) appendSoftware(dst []byte, r *record.Record, o outcome) []byte {
	words := "changed software|change software|"
	for _, w := range [...]struct{ op, words string }{
		{"install", "installed|install|"}, {"update", "updated|update|"}, {"upgrade", "upgraded|upgrade|"}, {"remove", "removed|remove|"},
		{"delete", "removed|remove|"}, {"erase", "removed|remove|"}, {"downgrade", "downgraded|downgrade|"}, {"reinstall", "installed again|install again|"},
	} {
		if string(operation(r)) == w.op {
			words = w.words
		}
	}
	return f.appendPhrase(dst, r, o, words+" <sw>[ (<sw_type>)][ in <root_dir>]")
}

// appendOperation appends what op= says was done, to what rest names.
func (f *lineFormat) appendOperation(dst []byte, r *record.Record, o outcome, rest string) []byte {
	op := operation(r)
	if words, ok := operationWords[strings.ToLower(string(op))]; ok {
		return f.appendPhrase(dst, r, o, words+"|"+rest)
	}
	if len(op) == 0 {
		return f.appendFields(dst, r, o)
	}
	return f.appendPhrase(dst, r, o, "did <op> to|do <op> to|"+rest)
}

// appendIntegrity appends how a check of integrity went.
func (f *lineFormat) appendIntegrity(dst []byte, r *record.Record, o outcome) []byte {
	dst = f.appendPhrase(dst, r, unknownOutcome, "the integrity check|[ <op>][ of <name,file>]")
	if f.bad = f.bad || o == failed; o == failed {
		dst = append(dst, " failed"...)
	}
	return f.appendPhrase(dst, r, unknownOutcome, "|[: <cause>]")
}

// appendMessage appends the text that a user had recorded.
func (f *lineFormat) appendMessage(dst []byte, r *record.Record) []byte {
	text := r.Msg()
	if i := bytes.Index(text, []byte(" exe=")); i >= 0 {
		text = text[:i]
	}
	if len(text) == 0 {
		return f.appendFields(dst, r, unknownOutcome)
	}
	return appendQuoted(append(dst, "left the message "...), text, longestCommand)
}

// appendKernel appends what the kernel's audit says of itself.
func (f *lineFormat) appendKernel(dst []byte, r *record.Record) []byte {
	if lost, ok := r.Get("audit_lost"); ok {
		f.bad = true
		dst = f.appendValue(append(dst, "the kernel has lost "...), r, &lost)
		dst = append(dst, " records"...)
		return f.appendPhrase(dst, r, unknownOutcome, "|[ (rate limit <audit_rate_limit>][, backlog limit <audit_backlog_limit>)]")
	}
	return append(append(dst, "the kernel's audit: "...), terminalText(bytes.TrimSpace(r.Body))...)
}

// appendLoss appends what a record of our own forwarder says about lost records; false for
// any other record.
func (f *lineFormat) appendLoss(dst []byte, r *record.Record) ([]byte, bool) {
	switch string(operation(r)) {
	case "lost-records":
		dst = f.appendPhrase(dst, r, failed, "|lost <records> records (<cause>)")
	case "log-removed":
		dst = f.appendPhrase(dst, r, failed, "|wrote <records> records into a log that another program had removed")
	case "spool-removed":
		dst = f.appendPhrase(dst, r, f.outcomeOf(r), "|found that another program had removed its spool")
	case "serial-gaps":
		dst = f.appendPhrase(dst, r, unknownOutcome, "|never saw <serials> of the kernel's serial numbers[ from <first-serial>][ to <last-serial>]")
	default:
		return dst, false
	}
	for i, name := range [...]string{"first", "last"} {
		at, ok := r.Get(name)
		seconds, err := strconv.ParseFloat(string(at.Value), 64)
		if !ok || err != nil || seconds < 0 || seconds > 1<<40 {
			continue
		}
		dst = append(dst, [...]string{" between ", " and "}[i]...)
		dst = time.Unix(int64(seconds), 0).In(f.loc).AppendFormat(dst, lineTime)
	}
	return dst, true
}
