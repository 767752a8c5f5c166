package cli

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/internal/need"
)

// madeLines are records of events as a host writes them: up to four at a time by turns, some
// without an end, some that come out of order, and, with slow, some whose stamps are long past.
func madeLines(r *rand.Rand, n int, slow bool) (lines []string) {
	var waiting [][]string
	send := func() {
		i := r.IntN(len(waiting))
		lines = append(lines, waiting[i][0])
		if waiting[i] = waiting[i][1:]; len(waiting[i]) == 0 {
			waiting = slices.Delete(waiting, i, i+1)
		}
	}
	now := 1795334400_000
	for serial := 1; serial <= n; serial++ {
		now += []int{0, 2, 5, 20}[r.IntN(4)]
		ms, key := now-r.IntN(100), "fast"
		if slow && serial > 8 && r.IntN(9) == 0 {
			ms, key = now-[]int{61_000, 200_000, 900_000}[r.IntN(3)], "slow"
		}
		all := []string{
			`SYSCALL msg=audit(%s:%d): arch=c000003e syscall=257 success=yes exit=3 a0=0 a1=0 a2=0 a3=0 items=1 ppid=1 pid=7 auid=1000 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=pts0 ses=1 comm="x" exe="/bin/x" key="` + key + `"`,
			`CWD msg=audit(%s:%d): cwd="/"`, `PATH msg=audit(%s:%d): item=0 name="/tmp/` + key + `" nametype=NORMAL`, `PROCTITLE msg=audit(%s:%d): proctitle="x"`,
		}
		if r.IntN(5) == 0 {
			all = all[:1+r.IntN(3)]
		}
		for i, text := range all {
			all[i] = "node=web1 type=" + fmt.Sprintf(text, fmt.Sprintf("%d.%03d", ms/1000, ms%1000), serial)
		}
		for waiting = append(waiting, all); len(waiting) > 3; {
			send()
		}
	}
	for len(waiting) > 0 {
		send()
	}
	return lines
}

// raws are the events of an answer in the default format, each its lines.
func raws(answer string) (events []string) {
	for text := range strings.SplitSeq(answer, "----\n") {
		if i := strings.Index(text, "node="); i >= 0 {
			text, _, _ = strings.Cut(text[i:], "exit ")
			events = append(events, text)
		}
	}
	slices.Sort(events)
	return events
}

// TestFileAndStoreAgree sends made logs to a collector and asks both of them, at the moment at which
// all is acknowledged. They have the same events. Of system calls that took long, which the stock tools
// cut in a log, the store has each whole, and the log's pieces are what it has. Its timeout is a minute, so
// that a busy machine ends no event by its own clock.
func TestFileAndStoreAgree(t *testing.T) {
	t.Setenv("LC_ALL", "C")
	seed := need.Seed(t)
	for _, slow := range []bool{false, true} {
		dir, err := os.MkdirTemp("", "af") // sockets have short paths
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		n := need.Size(2000, 500)
		lines := madeLines(rand.New(rand.NewPCG(seed, 1)), n, slow)
		file, store := filepath.Join(dir, "all.log"), filepath.Join(dir, "store")
		writeFile(t, file, strings.Join(lines, "\n")+"\n")
		conf := filepath.Join(dir, "collector.conf")
		writeFile(t, conf, "end_of_event_timeout = 60\n")
		ctx, stop := context.WithCancel(context.Background())
		defer stop()
		var log need.Buffer
		ended := make(chan int, 1)
		go func() {
			ended <- Run(ctx, "v-test", []string{"collector", "serve", "--config", conf, "--store", store, "--listen", "127.0.0.1:0", "--http", "", "--node", "hub"}, Stdio{nil, &log, &log})
		}()
		addr := regexp.MustCompile(`listen=(\S+)`)
		need.Wait(t, "the collector is ready", func() bool { return addr.MatchString(log.String()) })
		sendLog(t, addr.FindStringSubmatch(log.String())[1], lines)
		ask := func(words ...string) (ofFile, ofStore []string) {
			words = slices.Concat([]string{"search", "--node", "web1", "--no-coverage-note"}, words)
			return raws(told(append(words, "-if", file)...)), raws(told(append(words, "--store", store)...))
		}
		ofFile, ofStore := ask()
		if len(ofStore) != n {
			t.Errorf("slow %v: the store has %d events, %d were sent", slow, len(ofStore), n)
		}
		if !slow {
			if d := cmp.Diff(ofFile, ofStore); d != "" {
				t.Errorf("-file +store:\n%.2000s", d)
			}
		} else if len(ofFile) <= n {
			t.Errorf("the log has %d events, and %d were sent: the test shows little", len(ofFile), n)
		}
		sorted := func(events []string) []string {
			all := strings.SplitAfter(strings.Join(events, ""), "\n")
			slices.Sort(all)
			return all
		}
		if d := cmp.Diff(sorted(ofFile), sorted(ofStore)); d != "" {
			t.Errorf("slow %v: records, -file +store:\n%.2000s", slow, d)
		}
		if slow {
			_, both := ask("-k", "slow", "-f", "/tmp/slow")
			want := 0
			for _, line := range lines {
				if strings.Contains(line, "type=PATH") && strings.Contains(line, `name="/tmp/slow"`) {
					want++
				}
			}
			if len(both) != want || want == 0 {
				t.Errorf("%d slow events are found by key and file, want %d", len(both), want)
			}
		}
		stop()
		if code := <-ended; code != 0 {
			t.Errorf("the collector ended with exit code %d: %s", code, log.String())
		}
	}
}
