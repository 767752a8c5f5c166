// Command bench runs the stock audit tools and ours side by side on this
// machine and prints the figures and their ratios as markdown, for
// BENCHMARKS.md. `make bench` runs it. It asserts nothing about time; a figure
// that could not be taken is a failure.
//
// Every row is taken in the same run for both, by turns, each server and store
// fresh. The load generator and the delaying link run in this process.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
)

type bench struct {
	ctx    context.Context
	dir    string // scratch
	bins   *harness.Binaries
	raw    *harness.Corpus
	scale  int // 1 is the quick run
	grow   int // GB that the growing store reaches
	rounds int

	size       float64 // GB of the log that is searched
	hosts      int     // that it is of
	stockLimit time.Duration

	days     int             // that the store of -only days has
	store    string          // where it is kept
	asks     string          // what of it is asked
	victoria string          // VictoriaLogs' program
	given    map[string]bool // flags on the command line

	attackers int      // hostile connections
	attacks   []string // that they do
	against   string   // folder of another version's collector
	load      string   // of those compared with it: the only one

	out    io.Writer
	failed []string
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() (returned error) {
	bin := flag.String("bin", "", "folder with forwarder and collector (built when empty)")
	long := flag.Bool("long", false, "ten times the records, five rounds, 1,000 connections")
	days := flag.Int("days", 20, "days of -only days, of -size GB each (0.1 without), and of -only terabyte (400 of 2.5 GB without)")
	store := flag.String("store", "", "folder in which -only days and terabyte keep their stores, or have some that they only ask")
	asks := flag.String("ask", "few,many,counts", "what -only days asks: for few records, for many, for counts")
	victoria := flag.String("victorialogs", "", "VictoriaLogs' program, for -only victorialogs")
	only := flag.String("only", "limits,server,paced,lockstep,modes,connections,hostile,link,search,scan,forwarder,cut,growth,ledger,seal,cluster", "parts to run")
	grow := flag.Int("grow", 10, "GB of records that the growing store reaches (100 takes about an hour and 8 GB of disk)")
	size := flag.Float64("size", 1, "GB of records that are searched; above 2, the stock tools read a sample of 1 GB")
	hosts := flag.Int("hosts", 1, "hosts whose records are searched")
	stockLimit := flag.Duration("stock-limit", 40*time.Second, "how long a stock tool may take for a whole scan or a report of what is searched")
	file := flag.String("o", "", "write the markdown to this file too")
	scratch := flag.String("dir", "", "folder for scratch files, on the disk to be measured (default: a temporary folder)")
	attackers := flag.Int("attackers", 9000, "hostile connections")
	attacks := flag.String("attacks", strings.Join(harness.Attacks(), ","), "what they do, one after the other")
	against := flag.String("against", "", "folder with another collector, for -only versions and -only paced")
	load := flag.String("load", "", "the only load of -only versions, as 50x256, of -only paced (senders x records/s, as 1000x1000), rows of -only transports, as '50 ms: ours', or the cluster of -only cluster, as '1 shard × 3' (default: all)")
	rounds := flag.Int("rounds", 3, "runs of each, of which the median counts")
	bare := flag.String("bare", "", "be the least possible server, writing to this file (the bench starts itself so)")
	attack := flag.String("attack", "", "attack ADDR:PORT, an argument, in this way (the bench starts itself so)")
	flag.Parse()

	if *bare != "" {
		return serveBare(*bare)
	}
	if *attack != "" {
		return attackOnly(*attack, flag.Arg(0), *attackers)
	}
	if os.Geteuid() != 0 {
		return errors.New("the stock daemons only run as root: run it as root")
	}
	for _, tool := range []string{"/sbin/auditd", "/sbin/audisp-remote", "/sbin/ausearch"} {
		if _, err := os.Stat(tool); err != nil {
			return fmt.Errorf("%w: the stock tools are needed: apt-get install auditd audispd-plugins", err)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp(*scratch, "auditfleet-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if *bin != "" {
		if err := os.Setenv("AUDITFLEET_BIN", *bin); err != nil {
			return err
		}
	}
	b := &bench{against: *against, load: *load, attackers: *attackers, attacks: strings.Split(*attacks, ","), ctx: ctx, dir: dir, scale: 1, rounds: *rounds, grow: *grow, size: *size, hosts: *hosts, stockLimit: *stockLimit, out: os.Stdout,
		days: *days, store: *store, asks: *asks, victoria: *victoria, given: map[string]bool{}}
	flag.Visit(func(f *flag.Flag) { b.given[f.Name] = true })
	if *long {
		b.scale, b.rounds = 10, 5
	}
	if *file != "" {
		f, err := os.Create(*file)
		if err != nil {
			return err
		}
		defer func() { returned = errors.Join(returned, f.Close()) }()
		b.out = io.MultiWriter(os.Stdout, f)
	}
	progress("building")
	if b.bins, err = harness.Build(dir, false); err != nil {
		return err
	}
	if b.raw, err = harness.ParseCorpus(harness.RecordedRaw()); err != nil {
		return err
	}
	b.machine()
	parts := map[string]func() error{
		"limits": b.machineLimits, "server": b.servers, "paced": b.paced, "lockstep": b.stopAndWait, "modes": b.modes, "connections": b.connections, "hostile": b.hostile, "link": b.link, "transports": b.transports, "idle": b.idle, "search": b.search, "scan": b.scans, "forwarder": b.forwarder, "cut": b.cutLink, "growth": b.growth, "ledger": b.ledger, "share": b.ledgerShare, "seal": b.seal, "versions": b.versions,
		"groups": b.groupsOnly, "days": b.manyDays, "terabyte": b.terabyte, "victorialogs": b.beside, "import": b.imports, "compaction": b.compaction, "running": b.runningDay, "cluster": b.cluster,
	}
	for _, name := range strings.Split(*only, ",") {
		part, ok := parts[name]
		if !ok {
			return fmt.Errorf("-only %s: there is %s", name, strings.Join(slices.Sorted(maps.Keys(parts)), ", "))
		}
		begin := time.Now()
		if err := part(); err != nil {
			b.fail("%s: %v", name, err)
		}
		progress("%s took %v", name, time.Since(begin).Round(time.Second))
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if len(b.failed) > 0 {
		return fmt.Errorf("%d figures could not be taken:\n  %s", len(b.failed), strings.Join(b.failed, "\n  "))
	}
	return nil
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

func (b *bench) printf(format string, args ...any) { fmt.Fprintf(b.out, format, args...) }

func (b *bench) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	progress("FAILED %s", text)
	b.failed = append(b.failed, text)
}

// machine prints what the figures were taken on.
func (b *bench) machine() {
	cpu, cores := "unknown CPU", 0
	text, _ := os.ReadFile("/proc/cpuinfo")
	for _, line := range strings.Split(string(text), "\n") {
		name, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(name) == "model name" {
			cpu, cores = strings.TrimSpace(value), cores+1
		}
	}
	var un syscall.Utsname
	release := "unknown"
	if syscall.Uname(&un) == nil {
		var r []byte
		for _, c := range un.Release {
			if c == 0 {
				break
			}
			r = append(r, byte(c))
		}
		release = string(r)
	}
	stock := "unknown"
	if r, err := harness.Run(10*time.Second, "/sbin/ausearch", "--version"); err == nil {
		stock = strings.TrimSpace(string(r.Stdout))
	}
	ours := "unknown"
	if r, err := harness.Run(10*time.Second, b.bins.Collector, "version"); err == nil && r.Code == 0 {
		ours, _, _ = strings.Cut(strings.TrimSpace(string(r.Stdout)), "\n")
	}
	load, _ := os.ReadFile("/proc/loadavg")
	b.printf("Machine: %s, %d cores, Linux %s. Stock: %s (auditd, audisp-remote, ausearch). Ours: %s. Load average before: %s.\n",
		cpu, cores, release, stock, ours, strings.Join(strings.Fields(string(load))[:1], ""))
	sync, err := harness.SyncTime(b.dir)
	if err == nil {
		b.printf("Disk: a 4 KiB append and fdatasync takes %v (median of 100), which bounds what a synced server can acknowledge one by one.\n", sync.Round(time.Microsecond))
	}
	b.printf("\n")
}

// scratch returns a fresh folder.
func (b *bench) scratch(name string) (string, error) {
	return os.MkdirTemp(b.dir, filepath.Base(name)+"-")
}

func median[T interface {
	~int | ~int64 | ~float64
}](v []T) T {
	if len(v) == 0 {
		var zero T
		return zero
	}
	s := slices.Clone(v)
	slices.Sort(s)
	return s[len(s)/2]
}

// count prints a number with thousands separated.
func count[T ~int | ~int64 | ~float64](v T) string {
	n := int64(v)
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// times prints a ratio.
func times(v float64) string {
	switch {
	case v >= 100:
		return count(v) + " ×"
	case v >= 10:
		return fmt.Sprintf("%.0f ×", v)
	}
	return fmt.Sprintf("%.2f ×", v)
}

func mib(n int64) string { return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20)) }

func short(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d >= time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d >= 10*time.Millisecond:
		return fmt.Sprintf("%.0f ms", float64(d)/1e6)
	case d >= time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/1e6)
	}
	return fmt.Sprintf("%d µs", d.Microseconds())
}
