package harness

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// calm changes every certificate and CA once more while nothing else goes wrong, and revokes
// one: no program is started again, and what is written meanwhile arrives.
func (c *chaos) calm() error {
	var procs []*Proc
	for _, h := range c.hosts {
		close(h.calm)
		procs = append(procs, h.proc)
	}
	for _, s := range c.sinks {
		procs = append(procs, s.Proc)
	}
	h := c.hosts[len(c.hosts)-1]
	for _, st := range []stage{
		{what: "another CA is trusted, too", do: stages[0].do},
		{what: "all get certificates of it", do: (*chaos).issueAll},
		{what: "the one before is not trusted any more", do: stages[2].do},
		{what: "a host's certificates are revoked", do: func(c *chaos) error { return c.pki.revoke(&h.party) }},
		{what: "it is refused", do: func(c *chaos) error { return c.refused(h) }},
		{what: "it has another one", do: func(c *chaos) error { return c.pki.issue(&h.party) }},
	} {
		c.note("stage", "calm: %s", st.what)
		if err := st.do(c); err != nil {
			return fmt.Errorf("%s: %w", st.what, err)
		}
		time.Sleep(stageGap)
		if err := c.alive(); err != nil {
			return err
		}
	}
	for _, h := range c.hosts {
		if err := c.arrive(h); err != nil {
			return err
		}
	}
	for i, p := range procs {
		if p.Exited() {
			return fmt.Errorf("program %d of %d has ended: %w", i+1, len(procs), p.ended())
		}
	}
	return nil
}

// refused waits until a forwarder says that its certificate is revoked.
func (c *chaos) refused(h *chaosHost) error {
	if !Poll(time.Minute, func() bool { return strings.Contains(h.proc.Output(), "revoked") }) {
		return fmt.Errorf("%s does not say that its certificate is revoked", h.name)
	}
	return nil
}

// arrive waits until the last records of a host are at a collector.
func (c *chaos) arrive(h *chaosHost) error {
	var failed error
	there := Poll(5*time.Minute, func() bool {
		for _, s := range c.sinks {
			r, err := s.Search(time.Minute, "-n", h.name, "-k", lastKey, "--format", "raw")
			if err != nil || len(r.Stdout) > 0 {
				failed = err
				return true
			}
		}
		time.Sleep(100 * time.Millisecond)
		failed = c.alive()
		return failed != nil
	})
	if !there {
		return fmt.Errorf("the last record of %s does not arrive", h.name)
	}
	return failed
}

// drain waits until no forwarder has anything left.
func (c *chaos) drain() error {
	for _, h := range c.hosts {
		if err := <-h.done; err != nil {
			return err
		}
		if err := c.arrive(h); err != nil {
			return err
		}
		left := -1
		if !Poll(2*time.Minute, func() bool {
			n, err := h.spooled()
			if err == nil {
				left = n
			}
			return err == nil && n == 0
		}) {
			return fmt.Errorf("%s keeps %d records in its spool", h.name, left)
		}
	}
	return nil
}

// ask remembers what a forwarder says of who acknowledged what.
func (c *chaos) ask(h *chaosHost) error {
	list, err := h.acknowledged()
	c.acked = append(c.acked, list...)
	return err
}

// stop ends everything in good order.
func (c *chaos) stop() error {
	for _, h := range c.hosts {
		if err := h.proc.Terminate(time.Minute); err != nil {
			return err
		}
	}
	for _, s := range c.sinks {
		if err := s.Terminate(time.Minute); err != nil {
			return err
		}
		v, err := s.Command(5*time.Minute, "verify")
		if err == nil && v.Code != 0 {
			err = fmt.Errorf("%s: verify: exit %d:\n%s%s", s.name, v.Code, v.Stdout, v.Stderr)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// check compares what is stored with what was written.
func (c *chaos) check(res *ChaosResult) error {
	res.Stored, res.Asked = make([]int, len(c.sinks)), len(c.acked)
	for _, h := range c.hosts {
		res.Records += h.log.last
		at := make([]uint8, h.log.last) // a bit a collector
		for i, s := range c.sinks {
			if err := c.compare(h, s, at, 1<<i); err != nil {
				return err
			}
		}
		missing, first := 0, -1
		for n, b := range at {
			for i := range c.sinks {
				res.Stored[i] += int(b >> i & 1)
			}
			switch b {
			case 0:
				if missing++; first < 0 {
					first = n
				}
			case 3:
				res.Both++
			}
		}
		if missing > 0 {
			return fmt.Errorf("%d of %d records of %s are nowhere, the first is number %d: %s", missing, h.log.last, h.name, first, h.log.append(nil, first))
		}
		last, err := h.acknowledged()
		if err == nil {
			err = c.keptWord(h, at, last)
		}
		if err != nil {
			return err
		}
		res.Turns += len(last)
	}
	return nil
}

// maxTurns is how many turns of collectors a forwarder remembers.
const maxTurns = 256

// keptWord checks that each collector has what a forwarder said that it acknowledged, then
// or at the end; and that at the end somebody is named for each record.
func (c *chaos) keptWord(h *chaosHost, at []uint8, last []acked) error {
	for _, a := range append(last, c.acked...) {
		if a.host != h {
			continue
		}
		for i, s := range c.sinks {
			if a.server != s.ip+":6060" {
				continue
			}
			for n := max(0, a.from); n < min(a.to, len(at)); n++ {
				if at[n]>>i&1 == 0 {
					return fmt.Errorf("%s says that %s acknowledged its records %d to %d, and it does not have number %d", h.name, s.name, a.from, a.to-1, n)
				}
			}
		}
	}
	if len(last) >= maxTurns {
		return nil
	}
	named := make([]bool, len(at))
	for _, a := range last {
		for n := max(0, a.from); n < min(a.to, len(at)); n++ {
			named[n] = true
		}
	}
	if n := slices.Index(named, false); n >= 0 {
		return fmt.Errorf("%s names nobody who has acknowledged its record %d; it names %d", h.name, n, len(last))
	}
	return nil
}

// compare marks with bit what a collector has of a host. Each record may be there once.
func (c *chaos) compare(h *chaosHost, s *chaosSink, at []uint8, bit uint8) error {
	err := s.stream(c.Dir, []string{"-n", h.name, "--format", "raw"}, func(line []byte) error {
		n, err := h.log.number(line)
		switch {
		case err != nil:
			return err
		case at[n]&bit != 0:
			return fmt.Errorf("%s has a record of %s twice: %s", s.name, h.name, line)
		}
		at[n] |= bit
		return nil
	})
	if err != nil {
		return err
	}
	// Its events ascend by time as they are printed, so they do by receipt, but where its forwarder was killed: what the other collector had acknowledged and the spool
	// had not noted is then sent once more, perhaps to this one, which has later ones already.
	var last struct{ received, serial string }
	back := 0
	return s.stream(c.Dir, []string{"-n", h.name, "--format", "json"}, func(line []byte) error {
		var e struct {
			Serial          json.Number
			Host, Received  string
			Verified        bool
			Records         []struct{ Received string }
			Mismatch, Extra bool
		}
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("%w: %s", err, line)
		}
		if !e.Verified || e.Host != h.name || e.Mismatch {
			return fmt.Errorf("%s has event %s not under the name that its sender proved: %s", s.name, e.Serial, line)
		}
		times := []string{e.Received}
		for _, r := range e.Records {
			if r.Received != "" {
				times = append(times, r.Received)
			}
		}
		for _, t := range times {
			if t < last.received {
				back++
			}
			if back > h.kills {
				return fmt.Errorf("%s received event %s of %s at %s, after event %s, at %s", s.name, e.Serial, h.name, t, last.serial, last.received)
			}
			last.received = t
		}
		last.serial = e.Serial.String()
		return nil
	})
}

// stream hands each line that a search prints to f.
func (s *chaosSink) stream(dir string, args []string, f func(line []byte) error) error {
	out, err := os.CreateTemp(dir, "found-")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	p, err := Start(Spec{Name: "collector search on " + filepath.Base(filepath.Dir(s.Store)), Args: append([]string{s.bin, "search", "--store", s.Store}, args...), Out: out, Env: raceEnv()})
	if err != nil {
		return err
	}
	if err := p.Wait(5 * time.Minute); err != nil && p.ExitCode() != 1 { // 1: nothing found
		return err
	}
	if _, err := out.Seek(0, io.SeekStart); err != nil {
		return err
	}
	lines := bufio.NewScanner(bufio.NewReaderSize(out, 1<<20))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if err := f(lines.Bytes()); err != nil {
			return err
		}
	}
	return lines.Err()
}
