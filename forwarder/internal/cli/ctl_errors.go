package cli

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/boot"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/pkg/rules"
)

func asRuleError(err error) (*rules.Error, bool) {
	var e *rules.Error
	return e, errors.As(err, &e)
}

// hint prints what to do, below the message it belongs to.
func (c *ctl) hint(s string) {
	if s != "" {
		fmt.Fprintf(c.err, "  %s\n", s)
	}
}

// errnoWords are the C library's messages, which the stock tools print.
var errnoWords = map[unix.Errno]string{
	unix.EPERM: "Operation not permitted", unix.ENOENT: "No such file or directory", unix.EINVAL: "Invalid argument",
	unix.EEXIST: "File exists", unix.ENOMEM: "Cannot allocate memory", unix.ECONNREFUSED: "Connection refused",
	unix.EOPNOTSUPP: "Operation not supported", unix.E2BIG: "Argument list too long", unix.ENAMETOOLONG: "File name too long",
	unix.ENOTDIR: "Not a directory", unix.EACCES: "Permission denied", unix.EPROTONOSUPPORT: "Protocol not supported",
	unix.ESRCH: "No such process", unix.ELOOP: "Too many levels of symbolic links", unix.ENOSPC: "No space left on device",
	unix.EAFNOSUPPORT: "Address family not supported by protocol",
}

func errnoText(err error) string {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return err.Error()
	}
	if s, ok := errnoWords[errno]; ok {
		return s
	}
	return errno.Error()
}

// why explains the kernel's answer: what it means here, and what to do. op is the rule's
// operation, nil for requests that are about no rule.
func (c *ctl) why(err error, op *rules.Op) string {
	var rule *rules.Rule
	if op != nil {
		rule = op.Rule
	}
	switch {
	case errors.Is(err, unix.EPERM):
		if c.isLocked() {
			return "the settings were locked with -e 2 and stay so until this machine boots again"
		}
		return "this needs CAP_AUDIT_CONTROL in the first user namespace: run it as root on the host, not in a container"
	case errors.Is(err, unix.ECONNREFUSED):
		return boot.Refused("")
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT):
		return boot.NoAudit("")
	case errors.Is(err, kernel.ErrNoAnswer):
		return "the kernel is busy: try again"
	case rule == nil:
		return ""
	case errors.Is(err, unix.EEXIST):
		return "the same rule is loaded already: -l lists the rules, -d with the same words deletes it"
	case errors.Is(err, unix.ENOMEM):
		return "the kernel is out of memory"
	}
	if path, ok := watched(rule); ok {
		switch {
		case errors.Is(err, unix.ENOENT) && op.Kind == rules.OpAdd:
			return missingPath(path)
		case errors.Is(err, unix.ENOTDIR):
			return "a part of " + path.Str + " is no directory"
		case errors.Is(err, unix.ENAMETOOLONG), errors.Is(err, unix.E2BIG):
			return "the path is too long for the kernel"
		}
	}
	switch {
	case errors.Is(err, unix.ENOENT) && op.Kind == rules.OpDelete:
		return c.nearest(rule)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		return invalid(rule)
	}
	return ""
}

func (c *ctl) isLocked() bool {
	if c.conn == nil {
		return false
	}
	s, err := c.conn.Status()
	return err == nil && s.Enabled == 2
}

func watched(r *rules.Rule) (rules.Field, bool) {
	for _, id := range [...]rules.FieldID{rules.FieldPath, rules.FieldDir, rules.FieldExe} {
		if f, ok := r.Field(id); ok {
			return f, true
		}
	}
	return rules.Field{}, false
}

func missingPath(f rules.Field) string {
	if f.ID == rules.FieldDir {
		return f.Str + " does not exist: a tree must be there when its rule is loaded"
	}
	return filepath.Dir(f.Str) + " does not exist: the file may come later, its directory must be there when the rule is loaded"
}

// fieldSince says which kernel brought a field, for those that a kernel in use
// may lack.
var fieldSince = map[rules.FieldID]string{
	rules.FieldExe: "4.3", rules.FieldSessionID: "4.10", rules.FieldFSType: "4.16", rules.FieldSaddrFam: "5.3",
}

// invalid explains EINVAL: what the rule itself shows, or what this kernel lacks.
func invalid(r *rules.Rule) string {
	if s := r.Refusal(); s != "" {
		return s
	}
	if r.List == rules.ListIOUring {
		return "the io_uring list needs Linux 5.16 or newer"
	}
	for _, f := range r.Fields {
		if since, ok := fieldSince[f.ID]; ok {
			return "this kernel lacks " + f.ID.String() + ", which needs Linux " + since + " or newer"
		}
		if f.ID >= rules.FieldSubjUser && f.ID <= rules.FieldSubjClr || f.ID >= rules.FieldObjUser && f.ID <= rules.FieldObjLevHigh {
			return f.ID.String() + " needs a security module (SELinux, Smack, AppArmor) that knows it"
		}
	}
	return "this kernel lacks a field or an operator of this rule: take conditions out one by one to find it"
}

// nearest finds the loaded rule a deletion most likely meant.
func (c *ctl) nearest(want *rules.Rule) string {
	const listing = "a rule is deleted with exactly the words it was added with, in their order: -l lists the rules"
	raw, err := c.conn.Rules()
	if err != nil {
		return listing
	}
	if len(raw) == 0 {
		return "no rules are loaded"
	}
	best, bestScore := "", 0
	for _, b := range raw {
		r, err := rules.Unmarshal(b)
		if err != nil || r.List != want.List {
			continue
		}
		score := 0
		for _, f := range want.Fields {
			for _, g := range r.Fields {
				if f == g {
					score++
				}
			}
		}
		if r.Mask == want.Mask {
			score++
		}
		if score > bestScore {
			best, bestScore = r.Text(c.env, rules.TextOptions{}), score
		}
	}
	if best == "" {
		return listing
	}
	return "no such rule is loaded; the most alike is " + best
}
