package search

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event/eventtest"
	"github.com/auditfleet/auditfleet/pkg/search/reallog"
)

// noID is an id that is no number, which the stock tool takes for root
// (pkg/interpret/DIFFERENCES.md).
var noID = regexp.MustCompile(`id=\\?\?[^ \n]*`)

func normalWords(r ran) ran {
	r.out = noID.ReplaceAllString(unsignedIDs(r.out), "id=root")
	// What is read otherwise of newer calls and records (pkg/interpret/DIFFERENCES.md).
	r.out = strings.NewReplacer("code=kill-process", "code=kill", "code=kill-thread", "code=kill", "list=io_uring", "list=unknown-list(7)", "=0xffffff9c ", "=AT_FDCWD ",
		"=0xffffffffffffff9c ", "=AT_FDCWD ", `sockaddr\ len\ too\ short`, `unnamed\ socket`, "sockaddr len too short", "unnamed socket").Replace(r.out)
	r.out = newWords.ReplaceAllString(openat2.ReplaceAllString(r.out, ""), "$1")
	return r
}

var (
	openat2  = regexp.MustCompile(` oflag=\S* mode=\S* resolve=\S*`)
	newWords = regexp.MustCompile(` (?:uring_op|subj_trust|obj_trust|fan_type|fan_info|oflag)=[^ \n]*|(syscall=(?:clone|fchmodat2|[lf]?chown(?:32|at)?)\b.*) a0=\S* a1=\S* a2=\S* a3=\S*`)
)

var negative = regexp.MustCompile(`unknown(\\*\()-(\d+)`)

// unsignedIDs is what the stock tool prints with its negative ids as we print them.
func unsignedIDs(out string) string {
	return negative.ReplaceAllStringFunc(out, func(s string) string {
		m := negative.FindStringSubmatch(s)
		n, _ := strconv.ParseUint(m[2], 10, 64)
		return "unknown" + m[1] + strconv.FormatUint(uint64(-uint32(n)), 10)
	})
}

// interpreted returns a random search with its result in words.
func (p *pool) interpreted(r *rand.Rand) []string {
	args := slices.DeleteFunc(p.query(r), func(a string) bool { return a == "-r" })
	if i := slices.Index(args, "--format"); i >= 0 {
		args = slices.Delete(args, i, i+2)
	}
	switch r.IntN(3) {
	case 0:
		args = append(args, "--format", "interpret")
	default:
		args = append(args, "-i")
	}
	if r.IntN(3) == 0 {
		args = append(args, "--escape", oneOf(r, "raw", "tty", "shell", "shell_quote"))
	}
	return args
}

func oneOf(r *rand.Rand, list ...string) string { return list[r.IntN(len(list))] }

// TestInterpretSameAsStock compares what searches print in words: all of every
// log, and generated searches.
func TestInterpretSameAsStock(t *testing.T) {
	t.Parallel()
	bin := need.Stock(t, "ausearch")
	logs := diffLogs(t)
	if !testing.Short() {
		enriched := eventtest.WithoutLogins(reallog.Record(t, reallog.Config{Enriched: true, Node: "now1"}))
		raw := bytes.ReplaceAll(regexp.MustCompile("\x1d.*").ReplaceAll(enriched, nil), []byte("node=now1 "), nil)
		for name, log := range map[string][]byte{"now-enriched": enriched, "now-raw": raw} {
			logs[name] = filepath.Join(t.TempDir(), name+".log")
			if err := os.WriteFile(logs[name], log, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	seed := need.Seed(t)
	rounds, total, nonEmpty, events := need.Rounds(40, 2), 0, 0, 0
	counts := map[string]int{}
	names := make([]string, 0, len(logs))
	for name := range logs {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		p := poolOf(eventtest.Read(t, logs[name]))
		queries := [][]string{{"-i"}, {"--format", "interpret", "--escape", "raw"}, {"-i", "--escape", "shell_quote"}}
		for range rounds {
			queries = append(queries, p.interpreted(r))
		}
		for _, q := range queries {
			args := append([]string{"-if", logs[name]}, q...)
			stock, ours := normalWords(runStock(t, bin, nil, args...)), normalWords(runOurs(utcEnv, args...))
			total++
			if stock.out != "" {
				nonEmpty++
				events += strings.Count(stock.out, "----\n")
			}
			if diff := compare(args, stock, ours, counts); diff != "" {
				t.Fatalf("ausearch %q: %s", args, diff)
			}
		}
	}
	t.Logf("compared %d invocations, %d with results, %d events; events explained by known differences: %v", total, nonEmpty, events, counts)
	if nonEmpty < total/10 {
		t.Errorf("only %d of %d searches found anything: they show little", nonEmpty, total)
	}
}
