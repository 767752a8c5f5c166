package main

import (
	"bytes"
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

// search compares `collector search` with ausearch on the same text, and says
// what the store takes on disk.
func (b *bench) search() (returned error) {
	size := int64(200<<20) * int64(b.scale)
	start := time.Unix(1763600000, 0)
	file := filepath.Join(b.dir, "search.log")
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	made, err := b.raw.Write(f, harness.Make{
		Seed: 9, Bytes: size, Nodes: []string{"web1"}, Start: start, Step: time.Millisecond, RareKey: rareKey, RareEvery: 20_000,
	})
	if err := f.Close(); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	defer os.Remove(file)
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
	if err := b.fill(c, file, made); err != nil {
		return err
	}
	mid := start.Add(made.Last.Sub(start) / 2).UTC()
	queries := []query{
		{"a rare key", []string{"-k", rareKey}},
		{"one program of some 400 × 17", []string{"-x", "/opt/app-77/bin/tar"}},
		{"a file's name", []string{"-f", "settings.json-77"}},
		{"a process", []string{"-p", b.somePID(file)}},
		{"a record type", []string{"-m", "USER_START"}},
		{"a second of time", []string{"-ts", mid.Format("01/02/06"), mid.Format("15:04:05"), "-te", mid.Format("01/02/06"), mid.Format("15:04:05")}},
		{"a user's denied opens", []string{"-ul", "1003", "-sc", "openat", "-e", "-13"}},
	}
	b.printf("## Search\n\n%s records, %s of text, on one host, as dense in time as recorded. Whole process wall time with `--raw` output (`--format raw`), median of\n", count(made.Records), mib(made.Bytes))
	b.printf("several runs, files cached. Ours asks the running server; outputs are compared line by line.\n\n")
	b.printf("| query | records found | ausearch | ours | ratio |\n|---|---|---|---|---|\n")
	for _, q := range queries {
		if err := b.oneQuery(c, file, q); err != nil {
			b.fail("search for %s: %v", q.what, err)
		}
		if b.ctx.Err() != nil {
			return b.ctx.Err()
		}
	}
	b.scans(c, file)
	return b.stopped(c, made)
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
	if err := p.Wait(10 * time.Minute); err != nil {
		return err
	}
	wall := time.Since(begin)
	progress("filled the store: %s records in %s, %s records/s", count(made.Records), short(wall), count(float64(made.Records)/wall.Seconds()))
	return c.Settle(time.Second, 2*time.Minute)
}

// somePID picks the process of a record in the middle of the file.
func (b *bench) somePID(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return "1"
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "1"
	}
	buf := make([]byte, 64<<10)
	n, _ := f.ReadAt(buf, info.Size()/2)
	_, rest, ok := bytes.Cut(buf[:n], []byte(" pid="))
	if !ok {
		return "1"
	}
	pid, _, _ := bytes.Cut(rest, []byte(" "))
	return string(pid)
}

func (b *bench) oneQuery(c *harness.Collector, file string, q query) error {
	var stock, ours []time.Duration
	var want, got []string
	const limit = 5 * time.Minute
	spent := time.Duration(0)
	for i := 0; i < b.rounds; i++ {
		r, err := harness.Ausearch(limit, file, append([]string{"--raw"}, q.args...)...)
		if err != nil {
			return err
		}
		if r.Code < 0 || r.Code > 1 {
			return fmt.Errorf("ausearch %s: exit %d: %s", strings.Join(q.args, " "), r.Code, r.Stderr)
		}
		stock, want = append(stock, r.Wall), lines(r.Stdout)
		if spent += r.Wall; spent > 15*time.Second {
			break // some of its searches take a minute
		}
	}
	for i := 0; i < 4*b.rounds; i++ {
		r, err := c.Search(limit, append([]string{"--format", "raw"}, q.args...)...)
		if err != nil {
			return err
		}
		if r.Code < 0 || r.Code > 1 {
			return fmt.Errorf("%s: exit %d: %s", strings.Join(q.args, " "), r.Code, r.Stderr)
		}
		ours, got = append(ours, r.Wall), lines(r.Stdout)
		if r.Wall > 10*time.Second {
			break
		}
	}
	if len(want) < 2 {
		return fmt.Errorf("%s: nothing to find: the question is a bad one", strings.Join(q.args, " "))
	}
	if !slices.Equal(want, got) {
		return fmt.Errorf("%s: ausearch printed %d lines, ours %d, and they differ", strings.Join(q.args, " "), len(want), len(got))
	}
	s, o := median(stock), median(ours)
	progress("search %-30s %8s records  ausearch %s  ours %s", q.what, count(len(got)), short(s), short(o))
	b.printf("| %s: `%s` | %s | %s | %s | %s |\n", q.what, strings.Join(q.args, " "), count(len(got)), short(s), short(o), times(float64(s)/float64(o)))
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
	var walls []time.Duration
	for range 4 * b.rounds {
		r, err := c.Search(time.Minute, "--format", "raw", "-k", rareKey)
		if err != nil {
			return err
		}
		if r.Code != 0 {
			return fmt.Errorf("search without a server: exit %d: %s", r.Code, r.Stderr)
		}
		walls = append(walls, r.Wall)
	}
	b.printf("\nWithout a server (the command opens the store itself): a rare key in %s. On disk, index included: %s for %s of text, %.1f %%; and %s of journal.\n",
		short(median(walls)), mib(disk-journal), mib(made.Bytes), 100*float64(disk-journal)/float64(made.Bytes), mib(journal))
	b.printf("The server's memory after filling and searching: %s, at most %s.\n\n", mib(live.RSS), mib(live.PeakRSS))
	return nil
}
