package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
)

const rareKey = "needle"

// query is one search, in words both tools understand.
type query struct {
	what string
	args []string
}

// queries are what is asked of logs again and again: who, what, where, when.
func (s *searched) queries() []query {
	at := []string{s.mid.Format("01/02/06"), s.mid.Format("15:04:05")}
	slice := append(append([]string{"-ts"}, at...), append([]string{"-te"}, at...)...)
	if len(s.hosts) > 1 {
		slice = append(slice, "-n", s.hosts[len(s.hosts)/2])
	}
	return []query{
		{"a rare key", []string{"-k", rareKey}},
		{"a process", []string{"-p", s.pid}},
		{"an event", []string{"-a", s.serial}},
		{"a user", []string{"-ui", "1001"}},
		{"one program of some 400 × 17", []string{"-x", "/opt/app-77/bin/tar"}},
		{"a file's name", []string{"-f", "settings.json-77"}},
		{"what failed", []string{"-sv", "no"}},
		{"logins", []string{"-m", "USER_LOGIN"}},
		{"another type", []string{"-m", "USER_START"}},
		{"a second of one host", slice},
		{"a user's denied opens", []string{"-ul", "1003", "-sv", "no", "-sc", "openat", "-e", "-13"}},
	}
}

// search compares `collector search` and `report` with the stock tools on the same
// text, and says what the store takes on disk and all of them in memory.
func (b *bench) search() (returned error) {
	s, err := b.makeSearched()
	defer os.Remove(s.all)
	defer os.Remove(s.file)
	if err != nil {
		return err
	}
	store, err := b.scratch("store")
	if err != nil {
		return err
	}
	defer os.RemoveAll(store)
	c, err := harness.StartCollector(b.bins, harness.CollectorOptions{Store: store})
	if err != nil {
		return err
	}
	defer func() { c.Kill() }()
	if err := b.fill(c, s.all, s.made); err != nil {
		return err
	}
	b.printf("## Search\n\n%s records, %s of text, of %d hosts, as dense in time as recorded. Whole process, files cached; ours asks the running server, median\n",
		count(s.made.Records), mib(s.made.Bytes), len(s.hosts))
	b.printf("of several runs, and outputs are compared line by line. First: until the first byte of output. Memory: the most of the tool, and for ours\nof the server at that time.\n")
	if s.factor > 1 {
		b.printf("\n**The stock tools read the first %s only; their times are multiplied by %.1f**, and outputs are not compared.\n", mib(sampleBytes), s.factor)
	}
	b.printf("\n| query, `--raw` | records found | ausearch | first | ours | first | ratio | ours `-i` | csv | text | memory stock | ours, server |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, q := range s.queries() {
		if err := b.oneQuery(c, &s, q); err != nil {
			b.fail("search for %s: %v", q.what, err)
		}
		if b.ctx.Err() != nil {
			return b.ctx.Err()
		}
	}
	b.wholeHead(&s)
	for _, w := range storeWholes() {
		if err := b.whole(c.Store, &s, w); err != nil {
			b.fail("%s: %v", strings.Join(w.ours, " "), err)
		}
	}
	if err := b.groups(c.Store); err != nil {
		b.fail("%v", err)
	}
	b.printf("\n")
	return b.stopped(c, s.made)
}

// fill ships the file to the collector and waits until it has indexed it.
func (b *bench) fill(c *harness.Collector, file string, made harness.Made) error {
	dir, err := b.scratch("fill")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	begin := time.Now()
	p, err := harness.StartForwarder(b.bins, dir, c.Addr(), file, nil)
	if err != nil {
		return err
	}
	if err := p.Wait(10*time.Minute + time.Duration(made.Bytes/gigabyte)*time.Minute); err != nil {
		return err
	}
	wall := time.Since(begin)
	progress("filled the store: %s records in %s, %s records/s", count(made.Records), short(wall), count(float64(made.Records)/wall.Seconds()))
	return c.Settle(time.Second, 2*time.Minute)
}

// runs takes several runs of ours, and the medians. The output is that of one more,
// when keep asks for it: keeping it would be part of the time.
func (b *bench) runs(limit time.Duration, keep bool, args ...string) (*harness.Measured, error) {
	var walls, firsts []time.Duration
	var last *harness.Measured
	peak := int64(0)
	for spent := time.Duration(0); len(walls) < 4*b.rounds && spent < 10*time.Second; spent += last.Wall {
		m, err := harness.Measure(limit, false, append([]string{b.bins.Collector}, args...)...)
		if err != nil {
			return nil, err
		}
		if m.Code < 0 || m.Code > 1 {
			return nil, fmt.Errorf("exit %d: %s", m.Code, m.Stderr)
		}
		walls, firsts, last = append(walls, m.Wall), append(firsts, m.First), m
		peak = max(peak, m.Peak)
	}
	if keep {
		m, err := harness.Measure(limit, true, append([]string{b.bins.Collector}, args...)...)
		if err != nil {
			return nil, err
		}
		last = m
	}
	last.Wall, last.First, last.Peak = median(walls), median(firsts), peak
	return last, nil
}

func (b *bench) oneQuery(c *harness.Collector, s *searched, q query) error {
	const limit = 10 * time.Minute
	var stock *harness.Measured
	for spent := time.Duration(0); stock == nil || spent < 3*time.Second; spent += stock.Wall {
		m, err := harness.Measure(limit, true, append([]string{"/sbin/ausearch", "-if", s.file, "--raw"}, q.args...)...)
		if err != nil {
			return err
		}
		if m.Code != 0 {
			return fmt.Errorf("ausearch %s: exit %d: %s", strings.Join(q.args, " "), m.Code, m.Stderr)
		}
		stock = m
	}
	var ours [4]*harness.Measured
	for i, format := range []string{"raw", "interpret", "csv", "text"} {
		m, err := b.runs(limit, i == 0, append([]string{"search", "--store", c.Store, "--format", format}, q.args...)...)
		if err != nil {
			return fmt.Errorf("%s: %w", strings.Join(q.args, " "), err)
		}
		ours[i] = m
	}
	server, err := c.Usage()
	if err != nil {
		return err
	}
	want, got := lines(stock.Stdout), lines(ours[0].Stdout)
	if len(want) < 2 {
		return fmt.Errorf("%s: nothing to find: the question is a bad one", strings.Join(q.args, " "))
	}
	if s.factor == 1 && !slices.Equal(want, got) {
		return fmt.Errorf("%s: ausearch printed %d lines, ours %d, and they differ", strings.Join(q.args, " "), len(want), len(got))
	}
	st := time.Duration(float64(stock.Wall) * s.factor)
	if slices.Contains(q.args, "-ts") {
		st = stock.Wall // it stops behind the second
	}
	progress("search %-30s %8s records  ausearch %s  ours %s", q.what, count(len(got)), short(st), short(ours[0].Wall))
	b.printf("| %s: `%s` | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s, %s |\n", q.what, strings.Join(q.args, " "), count(len(got)), short(st), short(stock.First),
		short(ours[0].Wall), short(ours[0].First), times(float64(st)/float64(ours[0].Wall)), short(ours[1].Wall), short(ours[2].Wall), short(ours[3].Wall),
		mib(stock.Peak), mib(ours[0].Peak), mib(server.RSS))
	return nil
}

// lines are sorted: both tools order events by time, and records of events that
// ended at the same instant may come in either order.
func lines(text []byte) []string {
	s := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	slices.Sort(s)
	return s
}

// stopped takes what can be said of the store without a server.
func (b *bench) stopped(c *harness.Collector, made harness.Made) error {
	live, err := c.Usage()
	if err != nil {
		return err
	}
	if err := c.Terminate(time.Minute); err != nil {
		return err
	}
	disk, err := harness.DirSize(c.Store)
	if err != nil {
		return err
	}
	journal, err := harness.DirSize(filepath.Join(c.Store, "journal"))
	if err != nil {
		return err
	}
	m, err := b.runs(time.Minute, false, "search", "--store", c.Store, "--format", "raw", "-k", rareKey)
	if err != nil {
		return fmt.Errorf("search without a server: %w", err)
	}
	b.printf("\nWithout a server (the command opens the store itself): a rare key in %s, with %s of memory. On disk, index included: %s for %s of text, %.1f %%; and %s of journal.\n",
		short(m.Wall), mib(m.Peak), mib(disk-journal), mib(made.Bytes), 100*float64(disk-journal)/float64(made.Bytes), mib(journal))
	b.printf("The server's memory after filling and searching: %s, at most %s.\n\n", mib(live.RSS), mib(live.PeakRSS))
	return nil
}
