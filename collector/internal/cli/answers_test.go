package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/auditfleet/auditfleet/collector/internal/server"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/terminal"
	"github.com/auditfleet/auditfleet/proto/fleet"
	"github.com/auditfleet/auditfleet/proto/remote"
)

// told runs a command and returns what it printed and its exit code.
func told(args ...string) string {
	var out, errs bytes.Buffer
	code := Run(context.Background(), "v-test", append([]string{"collector"}, args...), Stdio{nil, &out, &errs})
	return fmt.Sprintf("%sexit %d\n%s", out.String(), code, errs.String())
}

// toldOfFile is told, of a file whose ids are named like those of a store.
func toldOfFile(args ...string) string {
	var out, errs bytes.Buffer
	p := &program{version: "v-test", stdio: Stdio{nil, terminal.Guard(&out), terminal.Guard(&errs)}, fleetFiles: true}
	run := p.search
	if args[0] == "report" {
		run = p.report
	}
	code := run(context.Background(), args[1:])
	return fmt.Sprintf("%sexit %d\n%s", out.String(), code, errs.String())
}

// sendLog sends every line as a record of its own and waits for the replies.
func sendLog(t *testing.T, addr string, lines []string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var out []byte
	for i, line := range lines {
		out = remote.Append(out, remote.Message, uint32(i+1), []byte(line))
	}
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := c.Write(out); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, remote.HeaderSize*len(lines))); err != nil {
		t.Fatal(err)
	}
}

// fleetLog is the recorded logs of three hosts, each with its name.
func fleetLog(t *testing.T) []string {
	t.Helper()
	var lines []string
	for _, h := range []struct{ node, path string }{
		{"app1", "../../../pkg/search/testdata/types.log"},
		{"db1", "../../../integration/harness/testdata/real-ENRICHED.log"},
		{"web1", "../../../pkg/search/testdata/kernel-node.log"},
	} {
		b, err := os.ReadFile(h.path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			_, line, _ = strings.Cut(line, "type=")
			lines = append(lines, "node="+h.node+" type="+strings.TrimSuffix(line, "\n"))
		}
	}
	return lines
}

// fleetQuestions are command lines of search and report.
func fleetQuestions() (all [][]string) {
	for _, r := range strings.Fields("-a -au --comm -c -cr -e -f -h --integrity -k -l -m -ma -n -p -r -s -tm --tty -u --virt -x all") {
		for _, more := range []string{
			"", "--summary", "--failed", "--success", "--summary --failed", "-i", "--summary -i", "-nc",
			"-ts 11/22/26 09:08:54", "-te 11/22/26 09:00:00", "-ts 11/14/23 22:13:30 -te 11/22/26 08:57:42",
		} {
			line := append([]string{"report"}, strings.Fields(more)...)
			if r != "all" {
				line = slices.Insert(line, 1, r)
			}
			all = append(all, line)
		}
	}
	for _, q := range []string{
		"report --by node,key --top 5", "report --by=type --every=1h", "report --by auid,euid -i", "report --by auid,exe --format csv", "report --every 1h --by node --format json", "report -f --by file --top 3",
		"report --by syscall,exit -i", "report --by auid,ses,gid -i --format json", "report -u --format json", "report -s -i --format csv", "report -a --format table", "report --format json",
		"report -x --summary --top 3 --format csv", "report -u --summary -i --format json --top 2", "report -k --summary --top 2", "report --format table -ts 11/22/26 09:08:54",
		"report --by node --field exe=/usr/bin/cat", "report -f --summary --field auid=alice", "report --field key~^del -e", "report --field uid!=0",
		"search -m LOGIN", "search -k delete", "search -f shadow", "search -f passwd -i", "search -sv no --format csv", "search -ui 1000 --format text",
		"search -x /usr/bin -i", "search -m USER_AUTH -r", "search -p 1", "search --format json -c ls", "search --field name~passwd",
		"search --field key=delete --reverse --limit 3", "search --count", "search -ts 11/22/26 09:08:54 --count", "search --regex /etc/.*w --count",
		"search --tree -k exec", "search --around 1s -m ADD_USER", "search -r --reverse", "search --just-one", "search -ua alice", "search --session 152",
		"search -hn 203.0.113.9", "search -tm pts0", "search -e EACCES", "search --arch b64 -sc openat -r", "search -su a --count",
		"search --regex -k ^(delete|exec)$ --count", "search --field uid!=0 --count", "search --field uid=alice -i --count", "search -k nothing",
		"search --format csv -k home --extra-time --extra-keys --extra-labels --extra-obj2", "search -m 1300 -m LOGIN --count", "search --raw",
	} {
		all = append(all, strings.Fields(q))
	}
	return append(all, []string{"search", "--expression", `syscall i= "execve" && auid i= "alice"`, "--count"})
}

var listNumber = regexp.MustCompile(`(?m)^\d+\. `)

// inAnyOrder is an answer without the order of its lines: a file has its events as
// they were written, a store by time.
func inAnyOrder(answer string) []string {
	lines := strings.Split(listNumber.ReplaceAllString(answer, ""), "\n")
	slices.Sort(lines)
	return lines
}

// toldByAPI is told, of what the query API answers.
func toldByAPI(t *testing.T, api fleet.QueryClient, args []string) (string, error) {
	var words [][]byte
	for _, w := range args[1:] {
		words = append(words, []byte(w))
	}
	var next func() (text []byte, exit *fleet.Exit, err error)
	if args[0] == "search" {
		stream, err := api.Text(t.Context(), &fleet.TextRequest{Version: 8, Words: words})
		if err != nil {
			return "", err
		}
		next = func() ([]byte, *fleet.Exit, error) { r, err := stream.Recv(); return r.GetText(), r.GetExit(), err }
	} else {
		stream, err := api.Report(t.Context(), &fleet.ReportRequest{Version: 8, Words: words})
		if err != nil {
			return "", err
		}
		next = func() ([]byte, *fleet.Exit, error) { r, err := stream.Recv(); return r.GetText(), r.GetExit(), err }
	}
	var out []byte
	for {
		text, exit, err := next()
		if err != nil {
			return string(out), err
		}
		if out = append(out, text...); exit != nil {
			return fmt.Sprintf("%sexit %d\n%s", out, exit.GetCode(), exit.GetMessages()), nil
		}
	}
}

// refusedByAPI asks for what only a command line has, and for what is no search.
func refusedByAPI(t *testing.T, api fleet.QueryClient) {
	for _, words := range []string{
		"search -if /etc/passwd", "search --input-logs", "search --checkpoint /tmp/x", "search -ts checkpoint", "search --color always -k x", "search --no-pager",
		"search --store /tmp", "search --api=/tmp/x", "search --help", "search -v", "search",
		"report -if /etc/passwd", "report --input-logs", "report --no-pager", "report --store /tmp", "report --api /tmp/x", "report --help", "report -v",
	} {
		text, err := toldByAPI(t, api, strings.Fields(words))
		if status.Code(err) != codes.InvalidArgument || text != "" {
			t.Errorf("%s: %q, %v; want it refused", words, text, err)
		}
	}
	for _, words := range []string{"search -q", "search -m", "search --limit 0", "report -z", "report -a -e", "search --from nowhere", "search -k x -ts never"} {
		want, _, _ := strings.Cut(told(append(strings.Fields(words), "--api", "/none")...), "Try 'collector ") // which is for people
		if got, err := toldByAPI(t, api, strings.Fields(words)); err != nil || got != want {
			t.Errorf("%s: %q, %v; the command line says %q", words, got, err, want)
		}
	}
}

// TestSameAnswersOfFleet asks the same of a running collector, of its store when it
// has ended, and of one file with all the records.
func TestSameAnswersOfFleet(t *testing.T) {
	t.Setenv("LC_ALL", "C")            // dates are given and written as C does
	dir, err := os.MkdirTemp("", "af") // sockets have short paths
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	lines := fleetLog(t)
	file, store := filepath.Join(dir, "all.log"), filepath.Join(dir, "store")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var log need.Buffer
	ended := make(chan int, 1)
	go func() {
		ended <- Run(ctx, "v-test", []string{"collector", "serve", "--store", store, "--listen", "127.0.0.1:0", "--http", "", "--node", "hub"}, Stdio{nil, &log, &log})
	}()
	addr := regexp.MustCompile(`listen=(\S+)`)
	for end := time.Now().Add(time.Minute); !addr.MatchString(log.String()); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never ready: %s", log.String())
		}
	}
	sendLog(t, addr.FindStringSubmatch(log.String())[1], lines)
	questions := need.Some(fleetQuestions(), 30)
	want := make([]string, len(questions))
	nodes := []string{"--node", "app1", "--node", "db1", "--node", "web1"} // not the collector's own events
	// Events without an end are complete after two seconds.
	count := slices.Concat([]string{"search", "--count"}, nodes)
	all := told(append(count, "-if", file)...)
	for end := time.Now().Add(time.Minute); told(append(count, "--store", store)...) != all; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not all events can be found: %q, want %q", told(append(count, "--store", store)...), all)
		}
	}
	conn, err := grpc.NewClient("unix:"+filepath.Join(store, server.APISocket), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	api := fleet.NewQueryClient(conn)
	ask := func(where string) {
		for i, q := range questions {
			args := slices.Concat(q[:1], nodes, q[1:])
			if want[i] == "" {
				want[i] = toldOfFile(append(args, "-if", file)...)
			}
			got := told(append(args, "--store", store)...)
			if where == "running" {
				if text, err := toldByAPI(t, api, append(args, "--no-coverage-note")); err != nil || text != got {
					t.Errorf("%q: %v (-command line +API):\n%.1000s", q, err, cmp.Diff(got, text))
				}
			}
			if strings.Contains(want[i], `"node":"`) {
				got = withoutOrigin(t, got)
			}
			if diff := cmp.Diff(inAnyOrder(want[i]), inAnyOrder(got)); diff != "" {
				t.Errorf("%s: %q (-file +store):\n%.1000s", where, q, diff)
			}
		}
	}
	ask("running")
	refusedByAPI(t, api)
	stop()
	if code := <-ended; code != 0 {
		t.Errorf("the collector ended with exit code %d: %s", code, log.String())
	}
	ask("ended")
	empty := 0
	for _, w := range want {
		if strings.Contains(w, "exit 1\n") {
			empty++
		}
	}
	t.Logf("compared %d questions, %d without an answer", 2*len(questions), empty)
	if empty > len(questions)/3 {
		t.Errorf("%d of %d questions have no answer: they show little", empty, len(questions))
	}
}

// origin is what a store knows of an event and a file does not.
var origin = regexp.MustCompile(`,"host":"(\w+)","from":"127\.0\.0\.1","received":"[-0-9T:.]+Z"`)

// withoutOrigin takes it out of each event of an answer in JSON, which has it.
func withoutOrigin(t *testing.T, text string) string {
	t.Helper()
	if n, all := len(origin.FindAllString(text, -1)), strings.Count(text, `{"time":`); n != all {
		t.Errorf("%d of %d events say where they are from: %.500s", n, all, text)
	}
	return origin.ReplaceAllString(text, "")
}
