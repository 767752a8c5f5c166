package main

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
)

const (
	gigabyte     = int64(1e9)
	growRecords  = 1_500_000 // a round's, about 0.4 GB
	growConns    = 50
	growWindow   = 256
	growParts    = 30 // partitions the store has in the end
	growSearches = 5
)

// grown is the cost of the last records when so much was stored.
type grown struct {
	bytes        int64
	rate, cpu    float64 // records/s; CPU seconds a million records
	disk         float64 // of the text
	rss          int64
	search       time.Duration
	found, parts int
	start        time.Duration // after a kill
	replayed     string
}

// growth shows what a record costs as the store grows, and as the hosts do; and
// how long a start takes with a full journal behind many partitions.
func (b *bench) growth() error {
	if err := b.growStore(); err != nil {
		return err
	}
	return b.growHosts()
}

// growStore fills one store, in parts as of days, and takes figures at 1, 3, 10 …
// GB: each over the last GB before.
func (b *bench) growStore() (returned error) {
	dir, err := b.scratch("growth")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	c, err := harness.StartCollector(b.bins, harness.CollectorOptions{Store: dir, Args: []string{"--tcp-listen-queue", "1024"}})
	if err != nil {
		return err
	}
	defer func() { c.Kill() }()
	var marks []int64
	for gb := int64(1); gb <= int64(b.grow); gb *= 10 {
		marks = append(marks, gb)
		if 3*gb <= int64(b.grow) {
			marks = append(marks, 3*gb)
		}
	}
	b.printf("## As the store grows\n\n")
	b.printf("%d senders × %d in flight, `--flush sync`, %d hosts, one store. Rate and CPU over the last GB before each mark; the search is for a key that\n", growConns, growWindow, growConns)
	b.printf("%d events a GB have, whole process, median of %d; start: after SIGKILL until ready, the journal's records replayed.\n\n", growConns*2, growSearches)
	b.printf("| stored | partitions | records/s | CPU s/M | disk, of the text | memory | search | found | start | replayed |\n|---|---|---|---|---|---|---|---|---|---|\n")
	var total, window int64
	var acked int
	var wall time.Duration
	var cpu time.Duration
	first := grown{}
	for round := 0; len(marks) > 0; round++ {
		before, err := c.Usage()
		if err != nil {
			return err
		}
		load := harness.Load{
			Addr: c.Addr(), Conns: growConns, Window: growWindow, Records: growRecords, Corpus: b.raw, Seed: uint64(round) * 1000,
			Start: time.Unix(1763600000+int64(round)*3600, 0), RareKey: rareKey, RareEvery: 2000,
		}
		got, err := load.Run(b.ctx)
		if err != nil {
			return fmt.Errorf("after %d bytes: %w; its output:\n%s", total, err, c.Output())
		}
		after, err := c.Usage()
		if err != nil {
			return err
		}
		total += got.Bytes
		if window += got.Bytes; window > gigabyte {
			window, acked, wall, cpu = got.Bytes, 0, 0, 0
		}
		acked, wall, cpu = acked+got.Acked, wall+got.Wall, cpu+after.CPU-before.CPU
		progress("%s stored, %s records/s, %.1f CPU s/M", mib(total), count(got.Rate()), (after.CPU-before.CPU).Seconds()/float64(got.Acked)*1e6)
		if total/(int64(b.grow)*gigabyte/growParts) > (total-got.Bytes)/(int64(b.grow)*gigabyte/growParts) {
			if err := c.Signal(syscall.SIGUSR1); err != nil {
				return err
			}
		}
		if total < marks[0]*gigabyte {
			continue
		}
		g := grown{bytes: total, rate: float64(acked) / wall.Seconds(), cpu: cpu.Seconds() / float64(acked) * 1e6, rss: after.RSS}
		if c, err = b.growMark(c, dir, &g); err != nil {
			return err
		}
		if first.bytes == 0 {
			first = g
		}
		b.printf("| %.1f GB | %d | %s | %.1f (%.2f ×) | %.1f %% | %s | %s | %d | %s | %s |\n", float64(g.bytes)/1e9, g.parts, count(g.rate), g.cpu, g.cpu/first.cpu,
			100*g.disk, mib(g.rss), short(g.search), g.found, short(g.start), g.replayed)
		marks = marks[1:]
		window, acked, wall, cpu = 0, 0, 0, 0
	}
	b.printf("\n")
	return nil
}

// growMark takes the figures of one mark. The collector is killed and started
// again with what lies in its journal.
func (b *bench) growMark(c *harness.Collector, dir string, g *grown) (*harness.Collector, error) {
	var took []time.Duration
	for range growSearches {
		begin := time.Now()
		res, err := c.Search(time.Minute, "-k", rareKey, "--raw")
		if err != nil {
			return c, err
		}
		took = append(took, time.Since(begin))
		g.found = bytes.Count(res.Stdout, []byte(rareKey))
	}
	g.search = median(took)
	c.Kill()
	parts, err := partitions(dir)
	if err != nil {
		return c, err
	}
	disk, err := partitionBytes(dir)
	if err != nil {
		return c, err
	}
	g.parts, g.disk = len(parts), float64(disk)/float64(g.bytes)
	begin := time.Now()
	c, err = harness.StartCollector(b.bins, harness.CollectorOptions{Store: dir, Args: []string{"--tcp-listen-queue", "1024"}})
	if err != nil {
		return c, err
	}
	g.start = time.Since(begin)
	g.replayed = "0"
	if _, after, ok := strings.Cut(c.Output(), "replayed the journal: records="); ok {
		g.replayed, _, _ = strings.Cut(after, "\n")
		if n, err := strconv.Atoi(g.replayed); err == nil {
			g.replayed = count(n)
		}
	}
	return c, nil
}

func partitions(store string) ([]string, error) {
	return filepath.Glob(filepath.Join(store, "partitions", "*.db"))
}

// partitionBytes is what the store's partitions take on disk.
func partitionBytes(store string) (int64, error) {
	parts, err := partitions(store)
	if err != nil {
		return 0, err
	}
	return diskOf(parts)
}

// closedBytes is what the first partition and the log of what was stored take on disk.
func closedBytes(store string) (int64, error) {
	files, err := partitions(store)
	if err != nil {
		return 0, err
	}
	// 2026-11-29.db is followed by 2026-11-29.2.db.
	slices.SortFunc(files, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	files = files[:min(1, len(files))]
	for _, name := range []string{"leaves", "hashes", "index", "checkpoints"} {
		file := filepath.Join(store, "seal", name)
		if _, err := os.Stat(file); err == nil {
			files = append(files, file)
		}
	}
	return diskOf(files)
}

// diskOf is what files take on disk, holes not counted.
func diskOf(files []string) (disk int64, err error) {
	for _, p := range files {
		var st syscall.Stat_t
		if err := syscall.Stat(p, &st); err != nil {
			return 0, err
		}
		disk += st.Blocks * 512
	}
	return disk, nil
}

// growHosts sends the same records as of 1, 100 and 1,000 hosts: over as many
// connections with as many in flight on each, and over the same few, as relays do.
func (b *bench) growHosts() error {
	b.printf("## As the hosts grow\n\n")
	b.printf("%s records, `--flush sync`, CPU until all is indexed and sealed. Median of %d.\n\n", count(300_000*b.scale), b.rounds)
	b.printf("| hosts | connections × in flight | records/s | CPU s/M | of 100 hosts' | disk, of the text | peak memory |\n|---|---|---|---|---|---|---|\n")
	type load struct{ hosts, conns, window int }
	loads := []load{{1, 1, 16}, {100, 100, 16}, {1000, 1000, 16}, {1, 50, 320}, {100, 50, 320}, {1000, 50, 320}}
	all := map[load][]serverRun{}
	for round := range b.rounds {
		for _, l := range loads {
			r, err := b.runLoad(ourServer("sync"), harness.Load{Conns: l.conns, Window: l.window, Records: 300_000 * b.scale, Seed: uint64(round) * 10_000, Hosts: l.hosts})
			if b.ctx.Err() != nil {
				return b.ctx.Err()
			}
			if err != nil {
				b.fail("%v", err)
				continue
			}
			progress("%4d hosts, %4d × %-4d %9s records/s  %5.1f CPU s/M", l.hosts, l.conns, l.window, count(r.rate), r.cpu)
			all[l] = append(all[l], r)
		}
	}
	of := func(l load, get func(serverRun) float64) float64 {
		var list []float64
		for _, r := range all[l] {
			list = append(list, get(r))
		}
		slices.Sort(list)
		if len(list) == 0 {
			return 0
		}
		return list[len(list)/2]
	}
	cpu := func(r serverRun) float64 { return r.cpu }
	for i, l := range loads {
		base := of(loads[i/3*3+1], cpu)
		b.printf("| %d | %d × %d | %s | %.1f | %.2f × | %.1f %% | %s |\n", l.hosts, l.conns, l.window,
			count(of(l, func(r serverRun) float64 { return r.rate })), of(l, cpu), of(l, cpu)/base, 100*of(l, func(r serverRun) float64 { return r.disk }), mib(int64(of(l, func(r serverRun) float64 { return float64(r.peak) }))))
	}
	b.printf("\n")
	return nil
}
