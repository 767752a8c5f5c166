package search

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event/eventtest"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// disordered returns the log's lines as a writer that races itself, a lost disk
// or a clock set back would leave them: all lines whole, their order not.
func disordered(r *rand.Rand, lines []string) []string {
	lines = append([]string(nil), lines...)
	for range len(lines) / 4 {
		i := r.IntN(len(lines))
		j := min(len(lines)-1, i+r.IntN(12))
		switch r.IntN(6) {
		case 0, 1, 2:
			lines[i], lines[j] = lines[j], lines[i]
		case 3:
			lines = append(lines[:i], lines[i+1:]...)
		case 4:
			lines = append(lines[:j], append([]string{lines[i]}, lines[j:]...)...)
		case 5:
			lines[i] = moved(r, lines[i])
		}
	}
	return lines
}

// moved changes the second in a record's header by a few.
func moved(r *rand.Rand, line string) string {
	head, rest, ok := strings.Cut(line, "msg=audit(")
	if !ok {
		return line
	}
	sec, rest, _ := strings.Cut(rest, ".")
	n, err := strconv.ParseInt(sec, 10, 64)
	if err != nil {
		return line
	}
	return head + "msg=audit(" + strconv.FormatInt(n+int64(r.IntN(9)-4), 10) + "." + rest
}

// TestOrderSameAsStock compares how records become events and in which order
// these come, on logs whose lines are mixed up.
func TestOrderSameAsStock(t *testing.T) {
	bin := need.Stock(t, "ausearch")
	seed := need.Seed(t)
	r := rand.New(rand.NewPCG(seed, 99))
	logs := diffLogs(t)
	rounds := need.Rounds(12, 2)
	path := filepath.Join(t.TempDir(), "mixed.log")
	for _, name := range []string{"types", "fleet", "kernel-raw", "kernel-enriched"} {
		b, err := os.ReadFile(logs[name])
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.SplitAfter(strings.TrimSuffix(string(b), "\n"), "\n")
		lines[len(lines)-1] += "\n"
		lines = slices.DeleteFunc(lines, func(l string) bool { return strings.Contains(l, "apparmor=") }) // stock hides them
		for range rounds {
			mixed := strings.Join(disordered(r, lines), "")
			if err := os.WriteFile(path, []byte(mixed), 0o600); err != nil {
				t.Fatal(err)
			}
			args := []string{"-if", path, "-m", "ALL", "--eoe-timeout", strconv.Itoa(1 + r.IntN(4))}
			if r.IntN(2) == 0 {
				args = append(args, "-r")
			}
			stock, ours := runStock(t, bin, nil, args...), runOurs(utcEnv, args...)
			if diff := compare(args, stock, ours, map[string]int{}); diff != "" {
				keep := filepath.Join(os.TempDir(), "mixed-"+strconv.FormatUint(seed, 10)+".log")
				_ = os.WriteFile(keep, []byte(mixed), 0o600)
				t.Fatalf("%s: %q on %s: %.1500s", name, args, keep, diff)
			}
		}
	}
}

func FuzzParseArgs(f *testing.F) {
	for _, s := range []string{"-k\x00a", "-ts\x00today\x00-te\x00now", "-ul\x00-1", "-e\x00-EACCES", "-ts\x0001/02/26\x0010:00", "-m\x00A,,B", "--session\x00-1"} {
		f.Add(s, "en_US.UTF-8")
	}
	f.Fuzz(func(t *testing.T, s, locale string) {
		o, err := ParseArgs(strings.Split(s, "\x00"), Env{Location: time.UTC, Locale: locale, Now: time.Unix(1700000000, 0)})
		if (o == nil) == (err == nil) {
			t.Fatalf("%v %v", o, err)
		}
		if err == nil {
			query.NewMatcher(&o.Query).Match(eventtest.Parse([]byte(stamped("SYSCALL", exampleCall)))[0])
		}
	})
}
