package cli

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/internal/need"
	logins "github.com/auditfleet/auditfleet/pkg/last"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// loginLines are the logins on two hosts, one of which crashes now and then.
func loginLines(rng *rand.Rand, n int) (lines []sentLine) {
	sec, serial, ses := int64(1700000000), 0, 0
	add := func(host int, typ, body string) {
		serial++
		sec += 1 + rng.Int64N(5000)
		lines = append(lines, sentLine{host, serial, fmt.Sprintf("node=web%d type=%s msg=audit(%d.%03d:%d): %s", host, typ, sec, rng.IntN(1000), serial, body)})
	}
	const plain = "pid=1 uid=0 auid=4294967295 ses=4294967295 msg='op=x res=success'"
	var open [2][]int
	for range n {
		host := rng.IntN(2)
		switch rng.IntN(12) {
		case 0:
			add(host, "SYSTEM_BOOT", plain)
		case 1:
			add(host, "SYSTEM_SHUTDOWN", plain)
		case 2, 3, 4, 5:
			if list := open[host]; len(list) > 0 {
				i := rng.IntN(len(list))
				add(host, "USER_END", fmt.Sprintf("pid=%d uid=0 auid=%d ses=%d msg='op=PAM:session_close res=success'", list[i], list[i]%5, list[i]))
				open[host] = append(list[:i:i], list[i+1:]...)
			}
		case 6:
			add(host, "USER_LOGIN", "pid=5 uid=0 auid=4294967295 ses=4294967295 msg='op=login acct=\"joe\" hostname=? addr=192.0.2.9 terminal=ssh res=failed'")
		default:
			ses++
			add(host, "LOGIN", fmt.Sprintf("pid=%d uid=0 old-auid=4294967295 auid=%d tty=(none) old-ses=4294967295 ses=%d res=1", ses, ses%5, ses))
			add(host, "USER_LOGIN", fmt.Sprintf("pid=%d uid=0 auid=%d ses=%d msg='op=login id=%d hostname=h%d addr=? terminal=/dev/pts/%d res=success'", ses, ses%5, ses, ses%5, ses, ses))
			open[host] = append(open[host], ses)
		}
	}
	return lines
}

// TestLastFileIsStore asks for the logins on a host, of its log and of a collector's store
// that has the other host's, too.
func TestLastFileIsStore(t *testing.T) {
	t.Parallel()
	seed := need.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 9))
	lines := loginLines(rng, need.Size(1500, 300))
	s := openSame(t, seed, t.TempDir(), "")
	s.feed(lines)
	for host := range 2 {
		name := fmt.Sprintf("web%d", host)
		var log bytes.Buffer
		for _, l := range lines {
			if l.host == host {
				fmt.Fprintln(&log, l.line)
			}
		}
		file := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(file, log.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, words := range [][]string{{}, {"--bad"}, {"--proof"}, {"--user", "user3"}, {"--tty", "7", "--debug"}} {
			ask := func(run func(o *logins.Options, std logins.Stdio) int) (a answer) {
				var out, errs bytes.Buffer
				o, err := logins.ParseArgs(append(words, "-f", file), false, nil)
				if err != nil {
					t.Fatal(err)
				}
				o.Names, o.Now, o.Locale = sameNames{}, sameReceived, "C"
				a.code = run(o, logins.Stdio{Out: &out, Err: &errs})
				a.out, a.errs = out.String(), errs.String()
				return a
			}
			ofFile := ask(func(o *logins.Options, std logins.Stdio) int {
				return logins.RunFiles(context.Background(), o, time.UTC, "", std)
			})
			ofStore := ask(func(o *logins.Options, std logins.Stdio) int {
				return logins.Run(context.Background(), o, time.UTC, logins.Of(s.live(), &query.Query{Nodes: []string{name}}), std)
			})
			if d := cmp.Diff(ofFile.text(), ofStore.text()); d != "" || len(ofFile.out) < 100 {
				t.Errorf("%s %q: -file +store:\n%s", name, words, d)
			}
		}
	}
}
