package rules

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// Explanation describes what one operation of a command line would send to the kernel.
// Its JSON names and values are those of testdata/auditctl-3.0.9.jsonl.
type Explanation struct {
	File     string      `json:"file,omitempty"`
	LineNo   int         `json:"lineno,omitempty"`
	Line     string      `json:"line"`
	Sent     int         `json:"sent,omitempty"` // netlink message type
	Flags    *uint32     `json:"flags,omitempty"`
	Action   *uint32     `json:"action,omitempty"`
	Fields   [][3]uint32 `json:"fields,omitzero"`   // field, operator, value (a string's length)
	Syscalls any         `json:"syscalls,omitzero"` // "all" or numbers
	Mask63   *uint32     `json:"mask63,omitempty"`
	Buf      *string     `json:"buf,omitempty"`     // a character a byte (ISO 8859-1)
	Payload  string      `json:"payload,omitempty"` // of what is no rule, hex
	Listed   string      `json:"listed,omitempty"`
	Warnings []string    `json:"warnings,omitempty"`
	Error    string      `json:"error,omitempty"`
	Hint     string      `json:"hint,omitempty"`
	Column   int         `json:"column,omitempty"`
	Exit     *int        `json:"exit,omitempty"` // for a line that sends nothing
}

// Netlink message types of what is sent.
const (
	msgGet        = 1000
	msgSet        = 1001
	msgAddRule    = 1011
	msgDelRule    = 1012
	msgListRules  = 1013
	msgTrim       = 1014
	msgMakeEquiv  = 1015
	msgSetFeature = 1018
	msgUser       = 1005
)

// Explain parses a command line and returns what it would send: one Explanation for each
// operation, or a single one with the error.
func Explain(args []string, env Env) []Explanation {
	line := JoinLine(args)
	c, err := ParseArgs(args, env)
	if err != nil {
		e := Explanation{Line: line, Error: err.Error(), Exit: ptr(ExitCode)}
		if pe := (*Error)(nil); errors.As(err, &pe) {
			e.Error, e.Hint, e.Warnings = pe.Msg, pe.Hint, texts(pe.Warnings)
		}
		return []Explanation{e}
	}
	warnings := texts(c.Warnings)
	if c.Deprecated {
		return []Explanation{{Line: line, Error: warnings[len(warnings)-1], Warnings: warnings[:len(warnings)-1], Exit: ptr(0)}}
	}
	out := make([]Explanation, 0, len(c.Ops))
	for _, op := range c.Ops {
		e := Explanation{Line: line, Warnings: warnings}
		e.op(&op, env)
		out = append(out, e)
		warnings = nil
	}
	return out
}

func texts(warnings []Warning) []string {
	var list []string
	for _, w := range warnings {
		list = append(list, w.Msg)
	}
	return list
}

// latin1 writes each byte as the character of that number, so that JSON keeps
// every byte.
func latin1(s string) string {
	r := make([]rune, len(s))
	for i := range len(s) {
		r[i] = rune(s[i])
	}
	return string(r)
}

func ptr[T any](v T) *T { return &v }

func (e *Explanation) op(op *Op, env Env) {
	status := func(mask, index int, v uint32) {
		var b [44]byte
		b[0], b[1] = byte(mask), byte(mask>>8)
		for i := range 4 {
			b[4*index+i] = byte(v >> (8 * i))
		}
		e.Sent, e.Payload = msgSet, hex.EncodeToString(b[:])
	}
	switch op.Kind {
	case OpAdd, OpDelete:
		e.Sent = msgAddRule
		if op.Kind == OpDelete {
			e.Sent = msgDelRule
		}
		e.rule(op.Rule, env)
	case OpSetEnabled:
		status(0x01, 1, op.Value)
	case OpSetFailure:
		status(0x02, 2, op.Value)
	case OpSetRate:
		status(0x08, 4, op.Value)
	case OpSetBacklog:
		status(0x10, 5, op.Value)
	case OpSetBacklogWait:
		status(0x20, 9, op.Value)
	case OpResetLost:
		status(0x40, 0, 0x40)
	case OpResetBacklogWait:
		status(0x80, 0, 0x80)
	case OpLoginUIDImmutable:
		e.Sent, e.Payload = msgSetFeature, "00000000020000000200000002000000"
	case OpStatus:
		e.Sent = msgGet
	case OpList, OpDeleteAll:
		e.Sent = msgListRules
	case OpTrim:
		e.Sent = msgTrim
	case OpEquivalent:
		e.Sent, e.Payload = msgMakeEquiv, hex.EncodeToString(EquivalentPayload(op.Mount, op.Subtree))
	case OpMessage:
		e.Sent, e.Buf = msgUser, ptr(latin1("text="+op.Text))
	default:
		e.Exit = ptr(0)
	}
}

func (e *Explanation) rule(r *Rule, env Env) {
	flags := uint32(r.List)
	if r.Prepend {
		flags |= prepend
	}
	e.Flags, e.Action, e.Fields = &flags, ptr(uint32(r.Action)), [][3]uint32{}
	buf := ""
	for _, f := range r.Fields {
		value := f.Value
		if f.ID.IsString() {
			value = uint32(len(f.Str))
			buf += f.Str
		}
		e.Fields = append(e.Fields, [3]uint32{uint32(f.ID), uint32(f.Op), value})
	}
	e.Buf, e.Mask63 = ptr(latin1(buf)), ptr(r.Mask[maskWords-1])
	e.Syscalls = "all"
	if !r.Mask.All() {
		nums := r.Mask.Numbers()
		if nums == nil {
			nums = []int{}
		}
		e.Syscalls = nums
	}
	e.Listed = r.Text(env, TextOptions{})
	if why := r.Refusal(); why != "" {
		e.Warnings = append(e.Warnings, "the kernel refuses this rule: "+why)
	}
}

// JSON returns the explanation as one line of JSON with a newline at its end.
func (e *Explanation) JSON() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return nil, fmt.Errorf("explain: %w", err)
	}
	return b.Bytes(), nil
}
