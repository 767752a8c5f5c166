package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// stage is something that an administrator does once, at a part of the writing.
type stage struct {
	at   float64
	what string
	do   func(c *chaos) error
}

// stages are done in order, beside all else.
var stages = []stage{
	{0.10, "a second CA is trusted, too", func(c *chaos) error {
		if err := c.pki.addCA(); err != nil {
			return err
		}
		return c.pki.trust(c.parties())
	}},
	{0.25, "all get certificates of the second CA", (*chaos).issueAll},
	{0.40, "the first CA is not trusted any more", func(c *chaos) error {
		c.pki.cas = c.pki.cas[1:]
		return c.pki.trust(c.parties())
	}},
	{0.50, "a host's certificates are revoked", func(c *chaos) error {
		c.hosts[0].revoked = true
		return c.pki.revoke(&c.hosts[0].party)
	}},
	{0.60, "it has another one", func(c *chaos) error {
		c.hosts[0].revoked = false
		return c.pki.issue(&c.hosts[0].party)
	}},
}

func (c *chaos) issueAll() error {
	for _, p := range c.parties() {
		if err := c.pki.issue(p); err != nil {
			return err
		}
	}
	return nil
}

// progress is how much of what comes before the calm is written.
func (c *chaos) progress() float64 {
	written, all := 0, 0
	for _, h := range c.hosts {
		written += int(h.written.Load())
		all += h.turmoil()
	}
	return float64(written) / float64(all)
}

// stageGap is the least time between two stages: programs look at their files each second.
const stageGap = 2500 * time.Millisecond

// disturb does one thing after the other until all but the last tenth is written, and all
// stages are done. Then it puts everything right.
func (c *chaos) disturb() error {
	next, last := 0, time.Now()
	for c.progress() < 1 || next < len(stages) {
		time.Sleep(time.Duration(40+c.rng.IntN(300)) * time.Millisecond)
		if err := c.mend(time.Now()); err != nil {
			return err
		}
		if err := c.alive(); err != nil {
			return err
		}
		if next < len(stages) && c.progress() >= stages[next].at && time.Since(last) > stageGap {
			c.note("stage", "%s", stages[next].what)
			if err := stages[next].do(c); err != nil {
				return fmt.Errorf("%s: %w", stages[next].what, err)
			}
			next, last = next+1, time.Now()
			continue
		}
		if err := c.deed(); err != nil {
			return err
		}
	}
	for len(c.late) > 0 {
		if err := c.mend(c.late[0].at); err != nil {
			return err
		}
	}
	return c.alive()
}

// after has something done in a while, at most longest.
func (c *chaos) after(longest time.Duration, do func() error) {
	c.late = append(c.late, later{time.Now().Add(time.Duration(c.rng.Int64N(int64(longest)))), do})
}

// mend does what is due at a time.
func (c *chaos) mend(at time.Time) error {
	var left []later
	for _, l := range c.late {
		if l.at.After(at) {
			left = append(left, l)
		} else if err := l.do(); err != nil {
			return err
		}
	}
	c.late = left
	return nil
}

// alive returns an error when a program has ended by itself, or a writer.
func (c *chaos) alive() error {
	for _, s := range c.sinks {
		if !s.down && s.Exited() {
			return fmt.Errorf("%s ended by itself: %w", s.name, s.ended())
		}
	}
	for _, h := range c.hosts {
		if !h.down && h.proc.Exited() {
			return fmt.Errorf("%s ended by itself: %w", h.name, h.proc.ended())
		}
	}
	return nil
}

// deed does one thing at random; from the middle on, first what a run must have and chance has not given it: a busy
// machine does few. One that can't be done just now is left out.
func (c *chaos) deed() error {
	h, s := c.hosts[c.rng.IntN(len(c.hosts))], c.sinks[c.rng.IntN(len(c.sinks))]
	n := c.rng.IntN(21)
	if c.progress() > 0.5 {
		switch {
		case c.deeds["collector killed"] == 0:
			n = 9
		case c.deeds["forwarder killed"] == 0:
			n = 11
		case c.deeds["asked who acknowledged"] == 0:
			n = 19
		}
	}
	switch {
	case n < 9:
		return c.breakCable(h)
	case n < 11:
		return c.killSink(s)
	case n < 14:
		return c.killHost(h)
	case n < 15:
		if err := c.killSink(s); err != nil {
			return err
		}
		return c.killHost(h)
	case n < 16:
		return c.endHost(h)
	case n < 18:
		if h.revoked || h.torn {
			return nil
		}
		c.note("certificate of a host", "%s", h.name)
		return c.pki.issue(&h.party)
	case n < 19:
		if s.torn {
			return nil
		}
		c.note("certificate of a collector", "%s", s.name)
		return c.pki.issue(&s.party)
	case n < 20:
		if h.down {
			return nil
		}
		c.note("asked who acknowledged", "%s", h.name)
		return c.ask(h)
	default:
		all := c.parties()
		return c.tear(all[c.rng.IntN(len(all))])
	}
}

func (c *chaos) breakCable(h *chaosHost) error {
	i := c.rng.IntN(len(h.cables))
	cable := h.cables[i]
	if cable.Fault() != "" {
		return nil
	}
	faults := CableFaults()
	f := faults[c.rng.IntN(len(faults))]
	c.note("cable "+string(f), "%s to %s", h.name, c.sinks[i].name)
	c.after(3*time.Second, cable.Mend)
	return cable.Break(f)
}

func (c *chaos) killSink(s *chaosSink) error {
	if s.down || s.torn {
		return nil
	}
	c.note("collector killed", "%s", s.name)
	s.Kill()
	s.down = true
	c.after(2*time.Second, func() error { return s.start(c.bins) })
	return nil
}

func (c *chaos) killHost(h *chaosHost) error {
	if h.down || h.torn {
		return nil
	}
	c.note("forwarder killed", "%s", h.name)
	h.proc.Kill()
	h.down, h.kills = true, h.kills+1
	c.after(time.Second, func() error { return h.start(c.bins) })
	return nil
}

// endHost ends a forwarder in good order.
func (c *chaos) endHost(h *chaosHost) error {
	if h.down || h.torn {
		return nil
	}
	c.note("forwarder ended", "%s", h.name)
	if err := h.proc.Terminate(time.Minute); err != nil {
		return err
	}
	return h.start(c.bins)
}

// tear leaves one of a party's files half written for a while.
func (c *chaos) tear(p *party) error {
	if p.torn {
		return nil
	}
	for _, s := range c.sinks {
		if p == &s.party && s.down {
			return nil
		}
	}
	for _, h := range c.hosts {
		if p == &h.party && (h.down || h.revoked) {
			return nil
		}
	}
	path := filepath.Join(p.tls, []string{"ca.crt", p.name + ".crt", p.name + ".key"}[c.rng.IntN(3)])
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	p.torn = true
	c.note("torn file", "%s", filepath.Base(path))
	c.after(3*time.Second, func() error {
		p.torn = false
		if err := c.pki.trust([]*party{p}); err != nil {
			return err
		}
		return c.pki.issue(p)
	})
	return os.WriteFile(path, text[:len(text)/2], 0o600)
}
