package harness

import (
	"fmt"
	"math/rand/v2"
	"os"
	"time"
)

// Siege loads one collector with a fleet and kills the collector at random moments.
type Siege struct {
	Fleet *Fleet
	Opts  CollectorOptions
	For   time.Duration // the load's time
	Kills int           // spread over it at random
	Seed  uint64
	Logf  func(format string, args ...any)
	// Each, if not nil, is called after each restart with the running collector.
	Each func(c *Collector, kill int) error
}

// SiegeResult is what a siege showed.
type SiegeResult struct {
	Acked, Again, Connections uint64
	Starts                    []time.Duration // until ready, after each kill
	PeakRSS                   int64
	Drained                   time.Duration // from the last record to the last ACK
}

// Run runs the siege to its end. It returns an error unless every record is acknowledged,
// the collector stops in good order, each record is in the store once, and verify finds
// no fault.
func (s *Siege) Run(bins *Binaries) (_ *SiegeResult, err error) {
	rng := rand.New(rand.NewPCG(s.Seed, 7))
	c, err := StartCollector(bins, s.Opts)
	if err != nil {
		return nil, err
	}
	defer func() { c.Kill() }()
	s.Opts.Port = c.Port
	s.Fleet.Addr = c.Addr()
	res := &SiegeResult{}
	s.Fleet.Start()
	begin := time.Now()
	for kill := range s.Kills {
		// Somewhere within its share of the time.
		at := time.Duration((float64(kill) + rng.Float64()) / float64(s.Kills) * float64(s.For))
		time.Sleep(time.Until(begin.Add(at)))
		if c.Exited() {
			return nil, fmt.Errorf("the collector ended by itself before kill %d: %w; its output:\n%s", kill+1, c.ended(), c.Output())
		}
		if u, err := c.Usage(); err == nil {
			res.PeakRSS = max(res.PeakRSS, u.PeakRSS)
		}
		c.Kill()
		from := time.Now()
		if c, err = StartCollector(bins, s.Opts); err != nil {
			return nil, fmt.Errorf("start after kill %d: %w", kill+1, err)
		}
		res.Starts = append(res.Starts, time.Since(from))
		s.Logf("kill %d at %v: ready again in %v; %d acknowledged, %d sent again", kill+1, at.Round(time.Second), time.Since(from).Round(time.Millisecond), s.Fleet.Acked(), s.Fleet.Again())
		if s.Each != nil {
			if err := s.Each(c, kill); err != nil {
				return nil, fmt.Errorf("after kill %d: %w", kill+1, err)
			}
		}
	}
	time.Sleep(time.Until(begin.Add(s.For)))
	from := time.Now()
	if err := s.Fleet.Drain(2*time.Minute + s.For/5); err != nil {
		return nil, fmt.Errorf("%w; the collector's output:\n%s", err, c.Output())
	}
	res.Drained = time.Since(from)
	res.Acked, res.Again, res.Connections = s.Fleet.Acked(), s.Fleet.Again(), s.Fleet.Connections()
	if u, err := c.Usage(); err == nil {
		res.PeakRSS = max(res.PeakRSS, u.PeakRSS)
	}
	if err := c.Terminate(time.Minute); err != nil {
		return nil, err
	}
	return res, s.check(c)
}

// check looks at the store when nobody has it.
func (s *Siege) check(c *Collector) error {
	v, err := c.Command(10*time.Minute, "verify")
	if err != nil {
		return err
	}
	if v.Code != 0 {
		return fmt.Errorf("verify: exit %d:\n%s%s", v.Code, v.Stdout, v.Stderr)
	}
	s.Logf("verify, in %v: %s", v.Wall.Round(time.Millisecond), tail(string(v.Stdout)))
	out, err := os.CreateTemp("", "auditfleet-found-")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	p, err := Start(Spec{Name: "collector search", Args: []string{c.bin, "search", "--store", c.Store, "--format", "raw"}, Out: out, Env: raceEnv()})
	if err != nil {
		return err
	}
	if err := p.Wait(15 * time.Minute); err != nil {
		return err
	}
	if _, err := out.Seek(0, 0); err != nil {
		return err
	}
	return s.Fleet.Check(out)
}
