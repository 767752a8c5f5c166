package ruleset

import (
	"errors"
	"fmt"

	"github.com/auditfleet/auditfleet/pkg/rules"
)

// Kernel lists, adds and deletes rules. Plan.Apply uses it; it is called from one
// goroutine.
type Kernel interface {
	Rules() ([][]byte, error)
	AddRule(rule []byte) error
	DeleteRule(rule []byte) error
}

// ErrNotHeld is returned when the kernel acknowledged every step but lists other
// rules than it was given: somebody else changes them too, or it lacks something
// it did not refuse.
var ErrNotHeld = errors.New("the kernel lists other rules than it was given")

// ApplyError is returned for a plan that failed. Err is the cause and contains the
// kernel's errno. Step is the request that failed; it is nil if all requests succeeded
// but the kernel's rules are not those wanted.
type ApplyError struct {
	Step     *Step
	Done     int // number of steps carried out before the failure
	Err      error
	Rollback error // nil: the kernel holds the rules from before again
}

func (e *ApplyError) Error() string {
	s := e.Err.Error()
	if e.Rollback != nil {
		return s + "; and the rules from before could not be put back: " + e.Rollback.Error()
	}
	return s
}

func (e *ApplyError) Unwrap() error { return e.Err }

// Apply carries out the plan, then reads the kernel's rules and compares them with those
// wanted. If anything fails, it restores the rules from before; the error is an
// *ApplyError, whose Rollback says whether that succeeded.
func (p *Plan) Apply(k Kernel) error {
	before, err := list(k)
	if err != nil {
		return &ApplyError{Err: err}
	}
	for i := range p.Steps {
		if err := p.Steps[i].do(k); err != nil {
			e := &ApplyError{Step: &p.Steps[i], Done: i, Err: err}
			if i > 0 {
				e.Rollback = Restore(k, before)
			}
			return e
		}
	}
	if err := p.Verify(k); err != nil {
		return &ApplyError{Done: len(p.Steps), Err: err, Rollback: Restore(k, before)}
	}
	return nil
}

func list(k Kernel) ([]Held, error) {
	raw, err := k.Rules()
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", err)
	}
	return Unmarshal(raw)
}

func (s *Step) do(k Kernel) error {
	raw := s.Raw
	if raw == nil {
		b, err := s.Rule.Marshal()
		if err != nil {
			return err
		}
		raw = b
	}
	if s.Delete {
		return k.DeleteRule(raw)
	}
	return k.AddRule(raw)
}

// Verify compares the rules that the kernel lists with those that the plan leads to.
func (p *Plan) Verify(k Kernel) error {
	held, err := list(k)
	if err != nil {
		return err
	}
	return sameOrder(held, p.want)
}

// sameOrder compares list by list.
func sameOrder(held []Held, want []*rules.Rule) error {
	next := map[rules.List]int{}
	of := func(list rules.List, n int) *rules.Rule {
		for _, r := range want {
			if r.List == list {
				if n == 0 {
					return r
				}
				n--
			}
		}
		return nil
	}
	for _, h := range held {
		w := of(h.Rule.List, next[h.Rule.List])
		switch {
		case w == nil:
			return fmt.Errorf("%w: it has also %s", ErrNotHeld, text(h.Rule))
		case !same(h.Rule, w):
			return fmt.Errorf("%w: in place of %s it has %s", ErrNotHeld, text(w), text(h.Rule))
		}
		next[h.Rule.List]++
	}
	for _, r := range want {
		if missing := of(r.List, next[r.List]); missing != nil {
			return fmt.Errorf("%w: %s is missing", ErrNotHeld, text(missing))
		}
	}
	return nil
}

// classBits is the part of a mask's top word in which a kernel takes bits for
// classes of system calls; it lists the calls in place of the bit.
const classBits = 0xffff0000

// same compares a rule of the kernel's with one it was given. Where that named a
// class of system calls the kernel alone knows which they are.
func same(held, given *rules.Rule) bool {
	if held.Equal(given) {
		return true
	}
	if given.Mask.All() || given.Mask[len(given.Mask)-1]&classBits == 0 {
		return false
	}
	g := given.Clone()
	g.Mask = held.Mask
	return held.Equal(g)
}

func text(r *rules.Rule) string { return r.Text(rules.SystemEnv(), rules.TextOptions{}) }

// Restore returns the kernel to the rules in before, as far as the kernel allows it.
func Restore(k Kernel, before []Held) error {
	now, err := list(k)
	if err != nil {
		return err
	}
	want := make([]*rules.Rule, len(before))
	for i, h := range before {
		want[i] = h.Rule
	}
	p, err := NewPlan(now, want)
	if err != nil {
		return err
	}
	for i := range p.Steps {
		if err := p.Steps[i].do(k); err != nil {
			return fmt.Errorf("step %d of %d: %w", i+1, len(p.Steps), err)
		}
	}
	return p.Verify(k)
}
