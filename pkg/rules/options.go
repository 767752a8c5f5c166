package rules

import "strings"

// option carries one option out. Its cases follow auditctl(8).
func (p *parser) option(o given) error {
	w := o.word
	switch o.name {
	case "-a", "-A", "-d":
		return p.listAction(o)
	case "-F":
		return p.fieldOption(w)
	case "-C":
		return p.compare(w)
	case "-S":
		return p.syscall(w)
	case "-w", "-W":
		return p.watch(o)
	case "-p":
		return p.permission(w)
	case "-k":
		const msg = "key option needs a watch or syscall given prior to it"
		if p.list() == listUnset {
			return p.fail(w, msg, "put -k at the end of the rule, after -a always,exit or -w PATH")
		}
		if !(p.syscalls || p.perms || p.exe || p.fstype) {
			return p.fail(w, msg, "write -S all before -k to say that every system call is meant")
		}
		return p.key(w)
	case "-D", "-l", "-s":
		return p.inspect(o)
	}
	return p.control(o)
}

// control is every option that is about the system and not about a rule.
func (p *parser) control(o given) error {
	w := o.word
	switch o.name {
	case "-h", "--help":
		p.last(Op{Kind: OpHelp}, false)
	case "-v":
		p.last(Op{Kind: OpVersion}, false)
	case "-i":
		p.last(Op{Kind: OpIgnoreErrors}, false)
	case "-c":
		p.last(Op{Kind: OpContinue}, false)
	case "-e":
		return p.setLevel(w, OpSetEnabled, "Enable", "0 is off, 1 on, 2 on and locked until the next boot")
	case "-f":
		return p.setLevel(w, OpSetFailure, "Failure", "0 is silent, 1 printk, 2 panic")
	case "-r":
		return p.setNumber(w, OpSetRate, "Rate", "rate", "records a second, 0 for no limit")
	case "-b":
		return p.setNumber(w, OpSetBacklog, "Backlog", "backlog", "a number of records, such as 8192")
	case "--backlog_wait_time":
		return p.setNumber(w, OpSetBacklogWait, "Backlog_wait_time", "backlog_wait_time", "a number of clock ticks, such as 60000")
	case "-m":
		return p.message(w)
	case "-q":
		return p.equivalent(w)
	case "-t":
		p.last(Op{Kind: OpTrim}, true)
	case "-R":
		return p.fail(w, "Error - nested rule files not supported", "-R FILE must be all there is on the command line")
	case "--loginuid-immutable":
		p.last(Op{Kind: OpLoginUIDImmutable}, true)
	case "--reset-lost":
		p.last(Op{Kind: OpResetLost}, true)
	case "--reset_backlog_wait_time_actual":
		p.last(Op{Kind: OpResetBacklogWait}, true)
	case "--signal":
		return p.signal(w)
	}
	return nil
}

// last adds an operation that ends the reading of options. Whatever follows it
// is an error, unless final.
func (p *parser) last(op Op, final bool) {
	p.op(op)
	p.done, p.final = true, final
}

func (p *parser) setLevel(w word, kind OpKind, name, hint string) error {
	if len(w.s) != 1 || w.s[0] < '0' || w.s[0] > '2' {
		return p.fail(w, name+" must be 0, 1, or 2 was "+w.s, hint)
	}
	p.op(Op{Kind: kind, Value: uint32(w.s[0] - '0')})
	return nil
}

func (p *parser) setNumber(w word, kind OpKind, name, lower, hint string) error {
	if !startsDigit(w.s) {
		return p.fail(w, name+" must be a numeric value was "+w.s, hint)
	}
	n := parseNumber(w.s)
	if n.overflow {
		return p.fail(w, "Error converting "+lower, "the number is too large: at most 4294967295")
	}
	p.number(w, n)
	p.op(Op{Kind: kind, Value: n.value})
	return nil
}

func (p *parser) message(w word) error {
	if len(p.args) > 2 {
		return p.fail(w, "The -m option must be only the only option and takes 1 parameter", "quote the text")
	}
	for i := range len(w.s) {
		if w.s[i] < ' ' {
			return p.fail(word{w.s[i : i+1], w.arg, w.off + i}, "Illegal character in audit event", "the text goes on one line of the log: no control characters")
		}
	}
	p.last(Op{Kind: OpMessage, Text: w.s}, true)
	return nil
}

func (p *parser) equivalent(w word) error {
	if p.syscalls {
		return p.fail(w, "Syscall auditing requested for make equivalent", "-q goes alone")
	}
	mount, subtree, ok := strings.Cut(w.s, ",")
	if !ok || subtree == "" || strings.Contains(subtree, ",") {
		return p.fail(w, "Error parsing equivalent parts", "write MOUNT-POINT,SUBTREE with one comma and no space")
	}
	p.last(Op{Kind: OpEquivalent, Mount: mount, Subtree: subtree}, true)
	return nil
}

// signals are what the daemon can be sent, each with what it does then.
var signals = [...][2]string{{"TERM", "stop"}, {"HUP", "reload"}, {"USR1", "rotate"}, {"USR2", "resume"}, {"CONT", "state"}}

func (p *parser) signal(w word) error {
	for _, s := range signals {
		if strings.EqualFold(w.s, s[0]) || strings.EqualFold(w.s, s[1]) {
			p.last(Op{Kind: OpSignal, Signal: s[0]}, false)
			return nil
		}
	}
	return p.fail(w, w.s+" is an unsupported signal", "TERM (stop), HUP (reload), USR1 (rotate), USR2 (resume) and CONT (state) are")
}

// inspect reads -l, -s and -D, which look at the words after them themselves.
func (p *parser) inspect(o given) error {
	total, rest := len(p.args)+1, p.args[p.scan.next:]
	at := word{o.name, o.word.arg, 0}
	if len(rest) > 0 {
		at = word{rest[0], p.scan.next, 0}
	}
	interpret := func() bool {
		if len(rest) == 0 || rest[0] != "-i" {
			return false
		}
		p.scan.next++
		return true
	}
	op := Op{}
	switch o.name {
	case "-s":
		op.Kind = OpStatus
		if total > 3 {
			return p.fail(at, "Too many options for status command", "-s takes -i and nothing else")
		}
		if total == 3 && len(rest) == 1 {
			if op.Interpret = interpret(); !op.Interpret {
				return p.fail(at, "Only -i option is allowed", "-s -i shows words for numbers")
			}
		}
	case "-l":
		op.Kind = OpList
		if total > 4 {
			return p.fail(at, "Wrong number of options for list request", "-l takes -i or -k KEY")
		}
		if total == 3 {
			if op.Interpret = interpret(); !op.Interpret {
				return p.fail(at, "Only -k or -i options are allowed", "-l -i shows words for numbers, -l -k KEY the rules with a key")
			}
		}
	case "-D":
		op.Kind = OpDeleteAll
		if total > 4 || total == 3 {
			return p.fail(at, "Wrong number of options for Delete all request", "-D deletes all rules, -D -k KEY those with a key")
		}
	}
	if total == 4 && op.Kind != OpStatus {
		if len(rest) != 2 || rest[0] != "-k" {
			msg := "Only -k or -i options are allowed"
			if op.Kind == OpDeleteAll {
				msg = "Only the -k option is allowed"
			}
			return p.fail(at, msg, "write "+o.name+" -k KEY")
		}
		op.Key = rest[1]
		if len(op.Key) > MaxKey {
			return p.fail(word{rest[1], p.scan.next + 1, 0}, "key option exceeds size limit", "a rule's keys have at most 256 bytes")
		}
		p.scan.next += 2
	}
	p.last(op, false)
	return nil
}
