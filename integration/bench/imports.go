package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/pkg/oldlogs"
)

const (
	oldSize  = 0.3 // GB of text, unless -size says
	oldHosts = 10  // unless -hosts says
	oldFiles = 5   // of a host: audit.log, audit.log.1 …, as auditd rotates them
)

// oldLogs are folders of hosts' rotated logs, plain and the same compressed.
type oldLogs struct {
	*bench
	plain, packed string
	made          harness.Made
	files         []string // the plain ones, the oldest of each host first
}

// imports shows what it takes to bring old logs in.
func (b *bench) imports() error {
	l := &oldLogs{bench: b}
	dir, err := b.scratch("logs")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l.plain, l.packed = filepath.Join(dir, "plain"), filepath.Join(dir, "gz")
	if err := l.make(); err != nil {
		return err
	}
	b.printf("## Old logs\n\n%d rotated logs of as many hosts' folders as %d, %s records, %s of text, cached; the gz ones are the same. CPU: of all processes of ours. Each once, a fresh store for each.\n\n", len(l.files), len(l.files)/oldFiles, count(l.made.Records), mib(l.made.Bytes))
	b.printf("| | took | records/s | MB/s of text | CPU µs a record | memory at most |\n|---|---|---|---|---|---|\n")
	for _, row := range []struct {
		what string
		do   func() (*harness.Measured, error)
	}{
		{"`ausearch --raw` of the first log, to a pipe", l.stock},
		{"the logs found and read, plain", func() (*harness.Measured, error) { return l.readOnly(l.plain) }},
		{"the same, gz", func() (*harness.Measured, error) { return l.readOnly(l.packed) }},
		{"`forwarder --source FILE`, one after another, to a collector", l.forwarded},
	} {
		if err := l.row(row.what, row.do); err != nil {
			b.fail("%s: %v", row.what, err)
		}
	}
	if res, err := harness.Run(10*time.Second, b.bins.Collector, "import", "--help"); err != nil || !bytes.Contains(res.Stdout, []byte("--dry-run")) {
		b.printf("\nThis collector has no import.\n\n")
		return nil
	}
	if err := l.imported(); err != nil {
		b.fail("import: %v", err)
	}
	b.printf("\n")
	return nil
}

func (l *oldLogs) row(what string, do func() (*harness.Measured, error)) error {
	m, err := do()
	if err != nil {
		return err
	}
	bytes, records := l.made.Bytes, l.made.Records
	if m.Bytes > 0 { // it printed what it read
		bytes, records = m.Bytes, lineCount(m)
	}
	progress("%-50s %s, %s records/s", what, short(m.Wall), count(float64(records)/m.Wall.Seconds()))
	l.printf("| %s | %s | %s | %.0f | %.2f | %s |\n", what, short(m.Wall), count(float64(records)/m.Wall.Seconds()), float64(bytes)/1e6/m.Wall.Seconds(), m.CPU.Seconds()/float64(records)*1e6, mib(m.Peak))
	return nil
}

func lineCount(m *harness.Measured) int { return bytes.Count(m.Stdout, []byte("\n")) }

// make writes the logs: a host's events follow one another through its files.
func (l *oldLogs) make() error {
	size, hosts := oldSize*float64(gigabyte), oldHosts
	if l.given["size"] {
		size = l.size * float64(gigabyte)
	}
	if l.given["hosts"] {
		hosts = l.hosts
	}
	for h := range hosts {
		start := time.Now().AddDate(0, 0, -30)
		for i := range oldFiles {
			name := "audit.log"
			if n := oldFiles - 1 - i; n > 0 {
				name = fmt.Sprintf("audit.log.%d", n)
			}
			var text bytes.Buffer
			made, err := l.raw.Write(&text, harness.Make{Seed: uint64(100*h + i), Bytes: int64(size) / int64(hosts*oldFiles), Start: start, Step: 100 * time.Millisecond})
			if err != nil {
				return err
			}
			start, l.made.Bytes, l.made.Records = made.Last, l.made.Bytes+made.Bytes, l.made.Records+made.Records
			file := filepath.Join(fmt.Sprintf("host%04d", h), name)
			if err := writeOld(filepath.Join(l.plain, file), text.Bytes()); err != nil {
				return err
			}
			l.files = append(l.files, filepath.Join(l.plain, file))
			var packed bytes.Buffer
			z := gzip.NewWriter(&packed)
			if _, err := z.Write(text.Bytes()); err != nil {
				return err
			}
			if err := z.Close(); err != nil {
				return err
			}
			if err := writeOld(filepath.Join(l.packed, file+".gz"), packed.Bytes()); err != nil {
				return err
			}
		}
	}
	return nil
}

func writeOld(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// stock has ausearch read one log: all of them would take it minutes.
func (l *oldLogs) stock() (*harness.Measured, error) {
	m, err := harness.Measure(5*time.Minute, true, "/sbin/ausearch", "-if", l.files[0], "--raw")
	if err == nil && m.Code != 0 {
		err = fmt.Errorf("exit %d: %s", m.Code, m.Stderr)
	}
	return m, err
}

// nodeFrom tells a host by the folder of its logs.
const nodeFrom = "{node}/audit.log*"

// readOnly finds and reads the logs and stores nothing.
func (l *oldLogs) readOnly(dir string) (*harness.Measured, error) {
	pattern, err := oldlogs.ParsePattern(nodeFrom)
	if err != nil {
		return nil, err
	}
	before, err := usageSelf()
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	set, err := oldlogs.Find(l.ctx, oldlogs.Config{Paths: []string{dir}, NodeFrom: pattern})
	if err != nil {
		return nil, err
	}
	records := 0
	if err := set.Read(l.ctx, oldlogs.ReadConfig{Record: func(e *oldlogs.Entry) error {
		if len(e.Node) > 0 {
			records++
		}
		return nil
	}}); err != nil {
		return nil, err
	}
	m := &harness.Measured{Wall: time.Since(begin)}
	after, err := usageSelf()
	if err != nil {
		return nil, err
	}
	if records != l.made.Records {
		return nil, fmt.Errorf("%d records were read, of %d", records, l.made.Records)
	}
	m.CPU = after - before
	return m, nil
}

// forwarded sends each log by a forwarder, the way of old logs before there was an import.
func (l *oldLogs) forwarded() (*harness.Measured, error) {
	store, err := l.scratch("store")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(store)
	c, err := harness.StartCollector(l.bins, harness.CollectorOptions{Store: store})
	if err != nil {
		return nil, err
	}
	defer c.Kill()
	m := &harness.Measured{}
	for i, file := range l.files {
		begin := time.Now()
		p, err := harness.StartForwarder(l.bins, filepath.Join(store, "spools", fmt.Sprint(i)), c.Addr(), file, nil, "--node", filepath.Base(filepath.Dir(file)))
		if err != nil {
			return nil, err
		}
		if err := p.Wait(10 * time.Minute); err != nil {
			return nil, err
		}
		used, err := p.Usage()
		if err != nil {
			return nil, err
		}
		m.Wall, m.CPU, m.Peak = m.Wall+time.Since(begin), m.CPU+used.CPU, max(m.Peak, used.PeakRSS)
	}
	live, err := c.Usage()
	if err != nil {
		return nil, err
	}
	if err := c.Terminate(time.Minute); err != nil {
		return nil, err
	}
	used, err := c.Usage()
	if err != nil {
		return nil, err
	}
	m.CPU, m.Peak = m.CPU+used.CPU, m.Peak+live.PeakRSS
	return m, nil
}

// importSays is the last line of `collector import --format json`.
type importSays struct {
	Files, Records, Stored, Skipped int
}

// imported runs `collector import` without a collector and beside one, of what is new and of what is there.
func (l *oldLogs) imported() error {
	store, err := l.scratch("store")
	if err != nil {
		return err
	}
	defer os.RemoveAll(store)
	alone, packed := filepath.Join(store, "alone"), filepath.Join(store, "packed")
	for _, dir := range []string{alone, packed} { // which an import does not make
		c, err := harness.StartCollector(l.bins, harness.CollectorOptions{Store: dir})
		if err != nil {
			return err
		}
		if err := c.Terminate(time.Minute); err != nil {
			return err
		}
	}
	for _, run := range []struct {
		what, store, dir string
		args             []string
		stored           bool
	}{
		{"`collector import --dry-run`", alone, l.plain, []string{"--dry-run"}, true},
		{"`collector import`, plain, without a collector", alone, l.plain, nil, true},
		{"the same again", alone, l.plain, nil, false},
		{"the gz ones after it", alone, l.packed, nil, false},
		{"`collector import`, gz, without a collector", packed, l.packed, nil, true},
	} {
		if err := l.oneImport(run.what, run.store, run.dir, run.args, run.stored, nil); err != nil {
			return err
		}
	}
	beside := filepath.Join(store, "beside")
	c, err := harness.StartCollector(l.bins, harness.CollectorOptions{Store: beside})
	if err != nil {
		return err
	}
	defer c.Kill()
	if err := l.oneImport("`collector import`, plain, beside a collector", beside, l.plain, nil, true, c.Proc); err != nil {
		return err
	}
	begin := time.Now()
	res, err := c.Search(5*time.Minute, "--raw", "-m", "ALL", "-n", "host*")
	if err != nil {
		return err
	}
	if n := bytes.Count(res.Stdout, []byte("\n")); n != l.made.Records {
		return fmt.Errorf("a search finds %d records of %d", n, l.made.Records)
	}
	progress("all are found, in %s", short(time.Since(begin)))
	return nil
}

func (l *oldLogs) oneImport(what, store, dir string, args []string, stored bool, server *harness.Proc) error {
	return l.row(what, func() (*harness.Measured, error) {
		var before harness.Usage
		if server != nil {
			var err error
			if before, err = server.Usage(); err != nil {
				return nil, err
			}
		}
		m, err := harness.Measure(10*time.Minute, true, slices.Concat([]string{l.bins.Collector, "import", "--store", store, "--node-from", nodeFrom, "--format", "json"}, args, []string{dir})...)
		if err != nil {
			return nil, err
		}
		if m.Code != 0 {
			return nil, fmt.Errorf("exit %d: %s", m.Code, m.Stderr)
		}
		printed := strings.Split(strings.TrimSpace(string(m.Stdout)), "\n")
		var says importSays
		if err := json.Unmarshal([]byte(printed[len(printed)-1]), &says); err != nil {
			return nil, fmt.Errorf("its last line, %.200q: %w", printed[len(printed)-1], err)
		}
		want := 0
		if stored {
			want = l.made.Records
		}
		if says.Stored != want {
			return nil, fmt.Errorf("it says %+v; %d records are there", says, l.made.Records)
		}
		if server != nil {
			after, err := server.Usage()
			if err != nil {
				return nil, err
			}
			m.CPU, m.Peak = m.CPU+after.CPU-before.CPU, m.Peak+after.PeakRSS
		}
		m.Bytes = 0 // of its words, not of logs
		return m, nil
	})
}

// usageSelf is the CPU that this process has used.
func usageSelf() (time.Duration, error) {
	var ru syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru)
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano()), err
}
