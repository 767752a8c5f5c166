package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
)

const (
	compactSize = 1.0 // GB that wait for compaction, unless -size says
	compactDays = 4
)

// loadBeside is how a load fared, without a compaction and beside one.
type loadBeside struct {
	rate, cpu float64
	p50, p99  time.Duration
}

// compaction shows how much a load suffers while the collector compacts. What waits for it is an import: an import may be
// compacted at once, and what has come over the network only when its day is over.
func (b *bench) compaction() error {
	if res, err := harness.Run(10*time.Second, b.bins.Collector, "import", "--help"); err != nil || !bytes.Contains(res.Stdout, []byte("--dry-run")) {
		return fmt.Errorf("this collector has no import")
	}
	dir, err := b.scratch("compaction")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	store, size, err := b.waiting(dir)
	if err != nil {
		return err
	}
	b.printf("## Ingest beside compaction\n\nThe load of 50 senders × 256 in flight with `--flush sync`, on a collector that has %s of text to compact, which it does all along or not (`compact`), at most 64 MB/s. By turns, median of %d.\n\n", mib(size), b.rounds)
	b.printf("| compacting | records/s | ratio | CPU s/M, compaction's included | p50 / p99 |\n|---|---|---|---|---|\n")
	all := map[bool][]loadBeside{}
	for round := range b.rounds {
		for _, on := range []bool{false, true} {
			r, err := b.loadBeside(store, filepath.Join(dir, "run"), on, round)
			if err != nil {
				return err
			}
			progress("compacting %v: %s records/s, p99 %s", on, count(r.rate), short(r.p99))
			all[on] = append(all[on], r)
		}
	}
	of := func(on bool, get func(r *loadBeside) float64) float64 {
		var list []float64
		for i := range all[on] {
			list = append(list, get(&all[on][i]))
		}
		return median(list)
	}
	rate := func(r *loadBeside) float64 { return r.rate }
	for _, on := range []bool{false, true} {
		took := func(get func(r *loadBeside) time.Duration) string {
			return short(time.Duration(of(on, func(r *loadBeside) float64 { return float64(get(r)) })))
		}
		b.printf("| %s | %s | %s | %.2f | %s / %s |\n", map[bool]string{false: "no", true: "yes"}[on], count(of(on, rate)), times(of(on, rate)/of(false, rate)), of(on, func(r *loadBeside) float64 { return r.cpu }),
			took(func(r *loadBeside) time.Duration { return r.p50 }), took(func(r *loadBeside) time.Duration { return r.p99 }))
	}
	b.printf("\n")
	return nil
}

// waiting makes a store with an import that is to be compacted.
func (b *bench) waiting(dir string) (store string, size int64, _ error) {
	store = filepath.Join(dir, "store")
	c, err := harness.StartCollector(b.bins, harness.CollectorOptions{Store: store})
	if err != nil {
		return "", 0, err
	}
	if err := c.Terminate(time.Minute); err != nil {
		return "", 0, err
	}
	each, nodes := compactSize*float64(gigabyte)/compactDays, []string{}
	if b.given["size"] {
		each = b.size * float64(gigabyte) / compactDays
	}
	for i := range dayHosts {
		nodes = append(nodes, fmt.Sprintf("host%04d", i))
	}
	logs := filepath.Join(dir, "logs")
	for day := range compactDays {
		var text bytes.Buffer
		made, err := b.raw.Write(&text, harness.Make{
			Seed: uint64(day), Bytes: int64(each), Nodes: nodes, Start: time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, day-10),
			Step: time.Duration(float64(23*time.Hour) / (each / eventText)),
		})
		if err != nil {
			return "", 0, err
		}
		size += made.Bytes
		if err := writeOld(filepath.Join(logs, fmt.Sprintf("audit.log.%d", compactDays-day)), text.Bytes()); err != nil {
			return "", 0, err
		}
	}
	res, err := harness.Run(10*time.Minute, b.bins.Collector, "import", "--store", store, logs)
	if err != nil || res.Code != 0 {
		return "", 0, fmt.Errorf("import: %w: exit %d: %s", err, res.Code, res.Stderr)
	}
	return store, size, os.RemoveAll(logs)
}

// loadBeside runs the load on a collector with a copy of the store.
func (b *bench) loadBeside(store, dir string, compact bool, round int) (r loadBeside, _ error) {
	defer os.RemoveAll(dir)
	if err := copyStore(store, dir); err != nil {
		return r, err
	}
	load := harness.Load{Conns: dayConns, Window: dayWindow, Records: 3_000_000 * b.scale, Corpus: b.raw, Seed: uint64(1000 * round)}
	args := []string{"--tcp-listen-queue", "1024", "--compact-import-after", "0s", fmt.Sprintf("--compact=%v", compact)}
	c, err := harness.StartCollector(b.bins, harness.CollectorOptions{Store: dir, Flush: "sync", Args: args})
	if err != nil {
		return r, err
	}
	defer c.Kill()
	load.Addr = c.Addr()
	before, err := c.Usage()
	if err != nil {
		return r, err
	}
	got, err := load.Run(b.ctx)
	if err != nil {
		return r, err
	}
	after, err := c.Usage()
	if err != nil {
		return r, err
	}
	r = loadBeside{rate: got.Rate(), cpu: (after.CPU - before.CPU).Seconds() / float64(got.Acked) * 1e6, p50: got.P50, p99: got.P99}
	if compact {
		left, err := c.Metric("auditfleet_collector_compaction_waiting_partitions")
		if err != nil {
			return r, err
		}
		if left == 0 {
			return r, fmt.Errorf("all was compacted before the load was over: a larger -size is needed")
		}
	}
	return r, nil
}
