package kernel

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/boot"
)

// OpError is a request the kernel refused. Err is its errno.
type OpError struct {
	Op  string
	Err error
}

func (e *OpError) Error() string {
	hint := ""
	switch {
	case errors.Is(e.Err, unix.EPERM):
		hint = " (the audit configuration may be locked until reboot, or this process lacks CAP_AUDIT_CONTROL in the user namespace that the machine booted with, or is in another process namespace: a container)"
	case errors.Is(e.Err, unix.ECONNREFUSED):
		hint = " (" + boot.Refused("") + ")"
	}
	return "audit netlink: " + e.Op + ": " + e.Err.Error() + hint
}

func (e *OpError) Unwrap() error { return e.Err }

// ErrNoAnswer is returned when the kernel does not answer a request in time.
var ErrNoAnswer = errors.New("no answer from the kernel")

// answerTimeout bounds one request. The kernel answers at once, except that it
// holds its audit mutex while it walks rules and trees.
const answerTimeout = 5 * time.Second

// Conn is a control connection to the kernel. It sends one request at a time and waits for
// the kernel's acknowledgement, at most answerTimeout. Any goroutine may call its methods;
// mu is held for a whole request, so an answer always belongs to the request under way.
type Conn struct {
	mu     sync.Mutex // guards everything below, over a whole request
	sock   Socket
	seq    uint32
	recv   [1]Datagram
	out    []byte
	closed bool
}

// Dial opens a control connection to the kernel.
func Dial() (*Conn, error) {
	s, err := NewSocket(SocketConfig{})
	if err != nil {
		return nil, err
	}
	return NewConn(s), nil
}

// NewConn returns a control connection that uses s and closes it in Close.
func NewConn(s Socket) *Conn {
	return &Conn{sock: s, recv: [1]Datagram{{Buf: make([]byte, headerLen+MaxMessage)}}}
}

// Close closes the connection; a second call does nothing.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	return c.sock.Close()
}

// answers says what a request is answered with, besides the acknowledgement.
type answers int

const (
	answerNone answers = iota // the acknowledgement alone
	answerOne                 // one message
	answerMany                // messages up to NLMSG_DONE
)

// request sends one message and calls fn (if any) with each answer's payload,
// valid during the call. Every request asks for an acknowledgement, and the
// answer may come before or after it.
func (c *Conn) request(op string, typ uint16, payload []byte, want answers, fn func(payload []byte) error) error {
	n, err := c.exchange(op, typ, payload, want, fn)
	if err == nil && n != 0 {
		err = &OpError{Op: op, Err: fmt.Errorf("%w: acknowledgement with code %d", ErrMessage, n)}
	}
	return err
}

// exchange is request for those whose acknowledgement carries a number.
func (c *Conn) exchange(op string, typ uint16, payload []byte, want answers, fn func(payload []byte) error) (result uint32, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, &OpError{Op: op, Err: unix.EBADF}
	}
	c.seq++
	c.out = AppendMessage(c.out[:0], Message{Type: typ, Flags: unix.NLM_F_REQUEST | unix.NLM_F_ACK, Seq: c.seq, Payload: payload})
	if err := c.sock.Send(c.out); err != nil {
		return 0, &OpError{Op: op, Err: err}
	}
	deadline := time.Now().Add(answerTimeout)
	acked := false
	for done := want == answerNone; !acked || !done; {
		m, err := c.next(deadline)
		if err != nil {
			return 0, &OpError{Op: op, Err: err}
		}
		if m.Seq != c.seq {
			continue // late answer to a request that timed out, or a record
		}
		switch m.Type {
		case unix.NLMSG_ERROR:
			n, err := ackResult(m.Payload)
			if err != nil {
				return 0, &OpError{Op: op, Err: err}
			}
			result = n
			acked = true
		case unix.NLMSG_DONE:
			done = true
		case typ:
			if fn != nil {
				if err := fn(m.Payload); err != nil {
					return 0, fmt.Errorf("audit netlink: %s: %w", op, err)
				}
			}
			done = done || want == answerOne
		}
	}
	return result, nil
}

// next returns the kernel's next message; it aliases c.recv.
func (c *Conn) next(deadline time.Time) (Message, error) {
	for {
		n, err := c.sock.Recv(c.recv[:])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			left := time.Until(deadline)
			if left <= 0 {
				return Message{}, ErrNoAnswer
			}
			if err := c.sock.Wait(left); err != nil {
				return Message{}, err
			}
			continue
		case err != nil:
			return Message{}, err
		case n == 0 || c.recv[0].Foreign:
			continue
		}
		return ParseMessage(c.recv[0].Buf[:c.recv[0].N])
	}
}

// Status reads the kernel's settings and counters.
func (c *Conn) Status() (Status, error) {
	var s Status
	err := c.request("get status", MsgGet, nil, answerOne, func(p []byte) (err error) {
		s, err = ParseStatus(p)
		return err
	})
	return s, err
}

// Set changes the settings that s.Mask names (bits Mask…) to their values in s.
func (c *Conn) Set(s Status) error {
	return c.request("set status", MsgSet, s.Append(nil), answerNone, nil)
}

// Features reads the kernel's audit features.
func (c *Conn) Features() (Features, error) {
	var f Features
	err := c.request("get features", MsgGetFeature, nil, answerOne, func(p []byte) (err error) {
		f, err = parseFeatures(p)
		return err
	})
	return f, err
}

// SetFeatures changes the features that f.Mask names.
func (c *Conn) SetFeatures(f Features) error {
	return c.request("set features", MsgSetFeature, f.append(nil), answerNone, nil)
}

// Rules returns copies of the loaded rules, each a struct audit_rule_data (linux/audit.h)
// with its strings behind it.
func (c *Conn) Rules() ([][]byte, error) {
	var rules [][]byte
	err := c.request("list rules", MsgListRules, nil, answerMany, func(p []byte) error {
		if err := checkRule(p); err != nil {
			return err
		}
		rules = append(rules, append([]byte(nil), p...))
		return nil
	})
	return rules, err
}

// AddRule loads one rule, a struct audit_rule_data with its strings; unix.EEXIST when the
// kernel has it already.
func (c *Conn) AddRule(rule []byte) error {
	return c.request("add rule", MsgAddRule, rule, answerNone, nil)
}

// DeleteRule removes one rule, given as to AddRule; unix.ENOENT when the kernel has no such rule.
func (c *Conn) DeleteRule(rule []byte) error {
	return c.request("delete rule", MsgDelRule, rule, answerNone, nil)
}

// Trim makes the kernel drop watched trees whose mount points are gone.
func (c *Conn) Trim() error {
	return c.request("trim", MsgTrim, nil, answerNone, nil)
}

// MakeEquivalent makes watches on the tree that has a mount point cover a mounted subtree
// too. The payload is struct { u32 lengths[2]; paths }, the two paths one behind the other.
func (c *Conn) MakeEquivalent(payload []byte) error {
	return c.request("make equivalent", MsgMakeEquiv, payload, answerNone, nil)
}

// Reset sets the counters that mask names (MaskLost or MaskBacklogWaitTimeActual)
// to zero and returns what was counted.
func (c *Conn) Reset(mask uint32) (uint32, error) {
	return c.exchange("reset counter", MsgSet, Status{Mask: mask}.Append(nil), answerNone, nil)
}

// SignalInfo asks the kernel which process last sent a signal to the registered daemon.
func (c *Conn) SignalInfo() (SignalInfo, error) {
	var s SignalInfo
	err := c.request("get signal info", MsgSignalInfo, nil, answerOne, func(p []byte) (err error) {
		s, err = parseSignalInfo(p)
		return err
	})
	return s, err
}

// SendUser makes the kernel emit a record with the user message type typ and that text.
func (c *Conn) SendUser(typ uint16, text []byte) error {
	return c.request("send user message", typ, append(append([]byte(nil), text...), 0), answerNone, nil)
}
