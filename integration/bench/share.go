package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/auditfleet/auditfleet/integration/harness"
)

// What of a profile of the head's benchmark is whose, by the functions on a sample's stack. What makes the records is no part of it.
const (
	shareFeeder = `head\.\(\*feeder\)|storetest`
	shareLedger = `internal/ledger\.|takeLedger|head\.senderID|bolt\.(writeLedger|foldOld|addRow|\(\*Store\)\.fold$)`
	shareSeal   = `internal/seal\.|bolt\.(putLeaf|\(\*Store\)\.(leafOf|CatchUp|catchUp))|group\.\(\*builder\)\.root`
)

// ledgerShare shows which part of the CPU of ingest the account of completeness and the seal take: runs of a whole collector differ by 5 to
// 10 % of each other, and samples of a profile do not.
func (b *bench) ledgerShare() error {
	b.printf("Of all samples of a profile of `go test ./collector/internal/head -bench Ingest`, without those that make the records: a run of 4,000,000 records, which is about\n")
	b.printf("two hours of what these hosts send, 600 records a second of all, and in the last row ten minutes, 7,000 a second; their forwarders say each minute that they\n")
	b.printf("live; with ten checkpoints.\n\n")
	b.printf("| hosts, records a batch, ms between events at most | ledger | seal without a key | with a key (frames) | with a key and events | ledger and seal, with a key | samples |\n|---|---|---|---|---|---|---|\n")
	for _, load := range []string{"hosts=50/batch=256/step=12", "hosts=1000/batch=16/step=12", "hosts=1000/batch=16/step=1"} {
		var ledger, seal, seconds [3]float64
		for i, key := range []string{"none", "frames", "events"} {
			if err := b.ctx.Err(); err != nil {
				return err
			}
			bin, profile, err := b.headProfile(load + "/key=" + key)
			if err != nil {
				return err
			}
			for focus, to := range map[string]*float64{".": &seconds[i], shareLedger: &ledger[i], shareSeal: &seal[i]} {
				if *to, err = samples(bin, profile, focus); err != nil {
					return err
				}
			}
			progress("%s, key %s: ledger %.2f s, seal %.2f s of %.2f s", load, key, ledger[i], seal[i], seconds[i])
		}
		share := func(part [3]float64, i int) float64 { return 100 * part[i] / seconds[i] }
		b.printf("| %s | %.1f %% | %.1f %% | %.1f %% | %.1f %% | **%.1f %%** | %.0f s |\n", strings.NewReplacer("hosts=", "", "/batch=", ", ", "/step=", ", ").Replace(load), share(ledger, 1), share(seal, 0), share(seal, 1),
			share(seal, 2), share(ledger, 1)+share(seal, 1), seconds[1])
	}
	b.printf("\n")
	return nil
}

// headProfile runs a benchmark of BenchmarkIngest once.
func (b *bench) headProfile(name string) (bin, profile string, err error) {
	root, err := harness.ModuleRoot()
	if err != nil {
		return "", "", err
	}
	bin, profile = filepath.Join(b.dir, "head.test"), filepath.Join(b.dir, "head.prof")
	var parts []string
	for _, p := range strings.Split("BenchmarkIngest/"+name, "/") {
		parts = append(parts, "^"+p+"$")
	}
	cmd := exec.CommandContext(b.ctx, "go", "test", "./collector/internal/head", "-run", "^$", "-bench", strings.Join(parts, "/"), "-benchtime", "1x", "-cpuprofile", profile, "-o", bin)
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0", "TMPDIR="+b.dir)
	out, err := cmd.CombinedOutput()
	if err == nil && !strings.Contains(string(out), "cpu-ns/record") {
		err = fmt.Errorf("there is no such benchmark")
	}
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return bin, profile, err
}

var accounted = regexp.MustCompile(`accounting for ([0-9.]+)(ms|s|mins), `)

// samples is how many seconds of a profile's samples have a function on their stack.
func samples(bin, profile, focus string) (float64, error) {
	out, err := exec.Command("go", "tool", "pprof", "-top", "-nodecount=1000000", "-nodefraction=0", "-ignore="+shareFeeder, "-focus="+focus, "-unit=s", bin, profile).Output()
	if err != nil {
		return 0, fmt.Errorf("read the profile: %w", err)
	}
	m := accounted.FindSubmatch(out)
	if m == nil { // none has
		return 0, nil
	}
	n, err := strconv.ParseFloat(string(m[1]), 64)
	return n * map[string]float64{"ms": 0.001, "s": 1, "mins": 60}[string(m[2])], err
}
