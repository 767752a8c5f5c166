package harness

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Chaos has several forwarders send numbered records by gRPC over TLS to two collectors, each
// of them in a network namespace with a cable to each other end, and has everything go wrong
// meanwhile: cables, programs, certificates.
type Chaos struct {
	Hosts   int
	Records int // of all hosts together
	Rate    int // records a second of all hosts
	Seed    uint64
	Dir     string
	Logf    func(format string, args ...any)
}

// ChaosResult is what it showed.
type ChaosResult struct {
	Records int
	Deeds   map[string]int // what was done, and how often
	Stored  []int          // records at each collector
	Both    int            // at both: what was not acknowledged by the one that had it
	Asked   int            // what forwarders said of a collector's acknowledgements meanwhile, and was so
	Turns   int            // the same at the end, where it was all
	Writing time.Duration  // while records came
	Drained time.Duration  // after the last one
}

func (r *ChaosResult) String() string {
	var names []string
	for name := range r.Deeds {
		names = append(names, name)
	}
	slices.Sort(names)
	var b strings.Builder
	fmt.Fprintf(&b, "%d records in %v and %v, %v at the collectors, %d of them at both, %d times said who acknowledged, and %d at the end", r.Records, r.Writing.Round(time.Second), r.Drained.Round(time.Millisecond), r.Stored, r.Both, r.Asked, r.Turns)
	for _, name := range names {
		fmt.Fprintf(&b, "; %s %d", name, r.Deeds[name])
	}
	return b.String()
}

// chaos is a run of Chaos.
type chaos struct {
	Chaos
	bins  *Binaries
	rng   *rand.Rand
	pki   *chaosPKI
	hosts []*chaosHost
	sinks []*chaosSink
	late  []later
	acked []acked
	deeds map[string]int
	said  []string // of what was done last
	begin time.Time
}

// later is what is to be done at a time.
type later struct {
	at time.Time
	do func() error
}

// Run runs it to its end. It returns an error unless each record is at one of both collectors
// at least, at none of them twice, in the order in which it was sent, and both stores are
// sound. Whatever it returns, nothing is left running.
func (o *Chaos) Run(bins *Binaries) (_ *ChaosResult, err error) {
	c := &chaos{Chaos: *o, bins: bins, rng: rand.New(rand.NewPCG(o.Seed, 14)), deeds: map[string]int{}, begin: time.Now()}
	defer c.close()
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\nseed %d; done until then: %v; the last of it:\n%s%s", err, o.Seed, c.deeds, strings.Join(c.said, "\n"), c.outputs())
		}
	}()
	if err := c.build(); err != nil {
		return nil, err
	}
	for _, h := range c.hosts {
		go h.write(o.Rate / o.Hosts)
	}
	from := time.Now()
	if err := c.disturb(); err != nil {
		return nil, err
	}
	o.Logf("%d deeds in %v: %v", c.done(), time.Since(from).Round(time.Second), c.deeds)
	if err := c.calm(); err != nil {
		return nil, fmt.Errorf("with nothing but certificates changing: %w", err)
	}
	res := &ChaosResult{Deeds: c.deeds, Writing: time.Since(from)}
	from = time.Now()
	if err := c.drain(); err != nil {
		return nil, err
	}
	res.Drained = time.Since(from)
	if err := c.stop(); err != nil {
		return nil, err
	}
	return res, c.check(res)
}

// done returns how many things were done.
func (c *chaos) done() (n int) {
	for _, k := range c.deeds {
		n += k
	}
	return n
}

// note counts and remembers a deed.
func (c *chaos) note(what, format string, args ...any) {
	c.deeds[what]++
	c.said = append(c.said, fmt.Sprintf("%7.2fs %s %s", time.Since(c.begin).Seconds(), what, fmt.Sprintf(format, args...)))
	c.said = c.said[max(0, len(c.said)-60):]
}

// build makes namespaces, cables, certificates, and starts every program.
func (c *chaos) build() error {
	c.pki = &chaosPKI{collector: c.bins.Collector, dir: filepath.Join(c.Dir, "pki"), denied: filepath.Join(c.Dir, "denied")}
	if err := os.MkdirAll(c.pki.dir, 0o700); err != nil {
		return err
	}
	for i := range 2 {
		s := &chaosSink{party: party{name: fmt.Sprintf("collector%d", i+1), ip: fmt.Sprintf("10.212.0.%d", i+1)}}
		c.sinks = append(c.sinks, s)
		s.tls = filepath.Join(c.Dir, s.name, "tls")
		s.opts = CollectorOptions{Store: filepath.Join(c.Dir, s.name, "store"), Port: 60}
		s.opts.Args = append([]string{"--listen", "", "--grpc", s.ip + ":6060", "--tls-deny", c.pki.denied}, s.args()...)
		var err error
		if s.net, err = NewNetns(s.name); err != nil {
			return err
		}
		s.opts.Net = s.net
		if err := s.net.Serve(s.ip); err != nil {
			return err
		}
	}
	for i := range c.Hosts {
		if err := c.addHost(i); err != nil {
			return err
		}
	}
	if err := errors.Join(c.pki.addCA(), c.pki.trust(c.parties()), c.pki.deny()); err != nil {
		return err
	}
	for _, p := range c.parties() {
		if err := c.pki.issue(p); err != nil {
			return err
		}
	}
	for _, s := range c.sinks {
		if err := s.start(c.bins); err != nil {
			return err
		}
	}
	for _, h := range c.hosts {
		if err := h.start(c.bins); err != nil {
			return err
		}
	}
	return nil
}

func (c *chaos) addHost(i int) error {
	h := &chaosHost{party: party{name: fmt.Sprintf("host%d", i+1)}, stop: make(chan struct{}), done: make(chan error, 1), calm: make(chan struct{})}
	h.dir = filepath.Join(c.Dir, h.name)
	h.tls = filepath.Join(h.dir, "tls")
	per := c.Records / c.Hosts / chaosParts * chaosParts
	h.log = chaosLog{host: h.name, base: time.Now().Add(-time.Hour).UnixMilli(), last: per}
	if err := os.MkdirAll(h.dir, 0o700); err != nil {
		return err
	}
	var err error
	if h.file, err = os.OpenFile(filepath.Join(h.dir, "audit.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	c.hosts = append(c.hosts, h)
	if h.net, err = NewNetns(h.name); err != nil {
		return err
	}
	var servers []string
	for j, s := range c.sinks {
		cable, err := NewCable(2*i+j, h.net, s.net, s.ip)
		if err != nil {
			return err
		}
		h.cables = append(h.cables, cable)
		servers = append(servers, s.ip+":6060")
	}
	if i%2 == 1 {
		slices.Reverse(servers) // half of them prefer the second
	}
	conf := filepath.Join(h.dir, "audisp-remote.conf")
	h.args = append([]string{
		"run", "--transport", "grpc", "--remote", strings.Join(servers, ","), "--remote-config", conf, "--probe-interval", "500ms",
		"--source", h.file.Name(), "--follow", "--state", filepath.Join(h.dir, "state"), "--spool", filepath.Join(h.dir, "spool"),
		"--log-file", "none", "--shutdown-timeout", "1s", "--alive-interval", "0", // so that an index is a number in the log
		"--http", hostWeb,
	}, h.party.args()...)
	return os.WriteFile(conf, []byte("remote_server = 192.0.2.1\nport = 6060\nnetwork_retry_time = 1\nmax_time_per_record = 2\nheartbeat_timeout = 1\n"), 0o640)
}

// parties returns everybody with a certificate.
func (c *chaos) parties() (all []*party) {
	for _, s := range c.sinks {
		all = append(all, &s.party)
	}
	for _, h := range c.hosts {
		all = append(all, &h.party)
	}
	return all
}

// close ends whatever runs.
func (c *chaos) close() {
	for _, h := range c.hosts {
		h.close()
	}
	for _, s := range c.sinks {
		s.close()
	}
}

// outputs is what the programs said last.
func (c *chaos) outputs() string {
	var b strings.Builder
	for _, s := range c.sinks {
		if s.Collector != nil {
			fmt.Fprintf(&b, "\n--- %s\n%s", s.name, tail(s.Output()))
		}
	}
	for _, h := range c.hosts {
		if h.proc != nil {
			fmt.Fprintf(&b, "\n--- %s, %d of %d records written\n%s", h.name, h.written.Load(), h.log.last, tail(h.proc.Output()))
		}
	}
	return b.String()
}
