package rules

import (
	"errors"
	"fmt"
	"strings"
)

// parser holds the state of one command line. Order matters in this grammar: a
// field is checked against the list given before it, a system call's name
// against the architecture given before it.
type parser struct {
	env  Env
	args []string
	scan scanner
	cmd  Command

	rule   Rule
	add    List // listUnset until given
	del    List
	action Action
	lists  int // -a, -A, -d given
	keys   string
	keyAt  word
	arch   uint32 // of the last -F arch=, or the machine's once -S was read; 0 before

	syscalls, perms, exe, fstype bool // given so far: what -k needs one of

	sends bool // a rule is to be sent
	done  bool // nothing after this option is read
	final bool // nor may anything follow it
}

// ParseArgs parses an auditctl command line; args does not contain the program's name.
// The error is an *Error.
func ParseArgs(args []string, env Env) (*Command, error) {
	p := &parser{env: env, args: args, add: listUnset, del: listUnset, action: actionUnset}
	p.scan.args = args
	for i, a := range args {
		if strings.IndexByte(a, 0) >= 0 {
			return nil, &Error{Msg: "NUL byte in an argument", Arg: i, Hint: "no word of a rule can hold one"}
		}
	}
	if len(args) == 2 && args[0] == "-R" {
		return &Command{Ops: []Op{{Kind: OpReadFile, File: args[1]}}}, nil
	}
	err := p.options()
	if err == nil && p.cmd.Deprecated {
		return &Command{Deprecated: true, Warnings: p.cmd.Warnings}, nil
	}
	if err == nil {
		err = p.finish()
	}
	if err == nil {
		return &p.cmd, nil
	}
	if pe := (*Error)(nil); errors.As(err, &pe) {
		pe.Warnings = p.cmd.Warnings
	}
	return nil, err
}

func (p *parser) options() error {
	for !p.done {
		o, ok := p.scan.scan()
		if !ok {
			break
		}
		if o.problem != "" {
			return p.badOption(o)
		}
		if err := p.option(o); err != nil {
			return err
		}
	}
	if p.final {
		return nil
	}
	if p.scan.at != 0 {
		a := p.args[p.scan.next]
		return p.fail(word{a, p.scan.next, 0}, "parameter passed without an option given",
			suggest("-"+a, longNames()), "a long option has two dashes: this is read as "+a[:p.scan.at]+" and more")
	}
	if rest := p.scan.args[p.scan.next:]; p.done && (len(rest) > 0 || len(p.scan.params) > 0) {
		at := word{arg: p.scan.next}
		if len(rest) > 0 {
			at.s = rest[0]
		} else {
			at = p.scan.params[0]
		}
		return p.stray(at)
	}
	if len(p.scan.params) > 0 {
		return p.stray(p.scan.params[0])
	}
	return nil
}

func (p *parser) stray(w word) error {
	hint := "this word belongs to no option"
	switch prev := w.arg - 1; {
	case w.s == "-":
		hint = "write the dash and the letter without a space"
	case prev >= 0 && strings.HasSuffix(p.args[prev], ","):
		hint += ": write the list without spaces, " + p.args[prev] + w.s
	case prev >= 0 && isOperator(w.s) || w.arg+1 < len(p.args) && isOperator(p.args[w.arg+1]):
		hint += ": write field, operator and value without spaces, as in -F uid=0"
	case p.done && strings.HasPrefix(w.s, "-"):
		hint = "the option before it must be the last one"
	default:
		hint += `: quote or escape (\ ) a value with spaces`
	}
	return p.fail(w, "parameter passed without an option given", hint)
}

func isOperator(s string) bool {
	for _, o := range opNames {
		if o.name == s {
			return true
		}
	}
	return false
}

// finish builds the rule when all options are read.
func (p *parser) finish() error {
	if p.keys != "" && !p.cmd.Has(OpList) && !p.cmd.Has(OpDeleteAll) {
		if err := p.field(word{"key=" + p.keys, p.keyAt.arg, p.keyAt.off}); err != nil {
			return err
		}
	}
	if !p.sends {
		if p.syscalls {
			return &Error{Msg: "Error - no list specified", Arg: -1, Hint: "say which list the rule is for, as in -a always,exit"}
		}
		if len(p.cmd.Ops) == 0 {
			return &Error{Msg: "no command given", Arg: -1, Hint: "-l lists the rules, -s shows the status, -h all options"}
		}
		return nil
	}
	op := Op{Kind: OpAdd, Rule: &p.rule}
	switch {
	case p.add != listUnset:
		p.rule.List = p.add
	case p.del != listUnset:
		op.Kind, p.rule.List = OpDelete, p.del
	}
	p.rule.Action = p.action
	if p.rule.List != ListTask && !p.syscalls {
		p.rule.Mask = AllSyscalls()
	}
	if _, err := p.rule.Marshal(); err != nil {
		return &Error{Msg: err.Error(), Arg: -1, Hint: "shorten the paths of this rule"}
	}
	p.cmd.Ops = append(p.cmd.Ops, op)
	return nil
}

// list is the list given so far, for adding or deleting.
func (p *parser) list() List {
	if p.add != listUnset {
		return p.add
	}
	return p.del
}

func (p *parser) fail(w word, msg string, hints ...string) error {
	return &Error{Msg: msg, Hint: or(hints...), Arg: w.arg, Off: w.off, Len: len(w.s)}
}

func (p *parser) warn(w word, format string, args ...any) {
	p.cmd.Warnings = append(p.cmd.Warnings, Warning{Msg: fmt.Sprintf(format, args...), Arg: w.arg})
}

func (p *parser) op(op Op) { p.cmd.Ops = append(p.cmd.Ops, op) }

func (p *parser) badOption(o given) error {
	msg := "Option " + p.args[o.word.arg] + " is invalid"
	switch o.problem {
	case "missing":
		return p.fail(o.word, msg, o.name+" needs a value after it")
	case "ambiguous":
		return p.fail(o.word, msg, "more than one option begins like this: write it out")
	case "valueless":
		return p.fail(o.word, msg, "this option takes no value")
	}
	if strings.HasPrefix(o.name, "--") {
		return p.fail(o.word, msg, suggest(o.name, longNames()), "-h shows all options")
	}
	hint := ""
	if word := p.args[o.word.arg]; len(word) > 2 && o.word.off > 1 {
		hint = "auditctl reads " + word + " as short options; a long option has two dashes"
	}
	return p.fail(o.word, msg, hint, "-h shows all options")
}
