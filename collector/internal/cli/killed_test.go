package cli

import (
	"bytes"
	"context"
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
	"github.com/klauspost/compress/zstd"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/proto/remote"
)

// testdata/killed is the store of a collector of commit ec2285e, of version 2, that got
// SIGKILL while three senders were sending: web1 with one record in flight, one without
// a name from 127.0.0.2, and db1 with its own numbering and 16 in flight, two events at
// a time with their records by turns. Two partitions are sealed; the rest is in the
// journal. acked has the records that were acknowledged, raw what that commit's own
// `search --format raw` then found, answers.txt what it answered.
const killedStore = "testdata/killed"

// killedLast is the sequence ID of db1's last record that was acknowledged.
const killedLast = 2147483959

// killed unpacks it, as far as it is not holes.
func killed(t *testing.T) (dir string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "af") // sockets have short paths
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, name := range []string{"VERSION", "senders.db", "journal/00000000000000000001-0000000001.seg",
		"partitions/2026-11-28.db", "partitions/2026-11-28.2.db", "partitions/2026-11-28.3.db"} {
		b := killedFile(t, strings.ReplaceAll(name, "/", "_"))
		path := filepath.Join(dir, name)
		for _, err := range []error{
			os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, bytes.TrimRight(b, "\x00"), 0o600), os.Truncate(path, int64(len(b))),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

func killedFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(killedStore, name+".zst"))
	if err != nil {
		t.Fatal(err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	if b, err = dec.DecodeAll(b, nil); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return b
}

// sortedLines are the lines of a text, less those of the collectors' own.
func sortedLines(text string) []string {
	lines := slices.DeleteFunc(strings.Split(text, "\n"), func(l string) bool {
		return l == "" || strings.HasPrefix(l, "node=hub ") || strings.HasPrefix(l, "node=log1.example.net ")
	})
	slices.Sort(lines)
	return lines
}

// A store that an older collector left when it was killed is read as that one read it,
// with and without a server; every acknowledged record is there once, also when its
// sender, which may not know that, sends it again.
func TestKilledStore(t *testing.T) {
	t.Parallel()
	dir := killed(t)
	want, acked := sortedLines(string(killedFile(t, "raw"))), sortedLines(string(killedFile(t, "acked")))
	if len(acked) != 791 || len(slices.Compact(slices.Clone(acked))) != 791 {
		t.Fatalf("%d records were acknowledged", len(acked))
	}
	check := func(when string) {
		t.Helper()
		out, errs, code := runProgram("search", "--store", dir, "--format", "raw")
		got := sortedLines(out)
		if d := cmp.Diff(want, got); d != "" || code != 0 || errs != "" {
			t.Errorf("%s: exit code %d, %s(-want +got):\n%.2000s", when, code, errs, d)
		}
		for _, rec := range acked {
			i, found := slices.BinarySearch(got, rec)
			if !found || i+1 < len(got) && got[i+1] == rec {
				t.Errorf("%s: found %v, or twice: %s", when, found, rec)
			}
		}
	}
	answers := killedAnswers(t, dir)
	file, err := os.ReadFile(filepath.Join(killedStore, "answers.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(file), answers); d != "" {
		t.Errorf("answers (-want +got):\n%s", d)
	}
	check("read")

	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var log need.Buffer
	ended := make(chan int, 1)
	go func() {
		ended <- Run(ctx, "v-test", []string{"collector", "serve", "--store", dir, "--listen", "127.0.0.3:0", "--http", "", "--node", "hub"}, Stdio{nil, &log, &log})
	}()
	addr := regexp.MustCompile(`listen=(\S+)`)
	for end := time.Now().Add(time.Minute); !addr.MatchString(log.String()); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never ready: %s", log.String())
		}
	}
	// What was open when the collector was killed ends two seconds after the start.
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if out, _, _ := runProgram("search", "--store", dir, "--format", "raw"); len(sortedLines(out)) >= len(want) {
			break
		}
	}
	check("served")
	resend(t, addr.FindStringSubmatch(log.String())[1], lastOf(t, "node=db1.example.net "))
	check("sent again")
	stop()
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d: %s", code, log.String())
	}
	check("ended")
	if out, errs, code := runProgram("verify", "--store", dir); code != 0 {
		t.Errorf("verify: exit code %d\n%s%s", code, out, errs)
	}
}

// killedAnswers asks the questions of answers.txt.
func killedAnswers(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(killedStore, "answers.txt"))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for line := range strings.Lines(string(b)) {
		if q, ok := strings.CutPrefix(line, "$ "); ok {
			words := strings.Fields(q)
			text, _, _ := strings.Cut(told(slices.Concat(words[:1], []string{"--store", dir}, words[1:])...), "<no matches>")
			out.WriteString(line + text)
		}
	}
	return out.String()
}

// lastOf is the last acknowledged record that begins so.
func lastOf(t *testing.T, begin string) (last string) {
	t.Helper()
	for line := range strings.Lines(string(killedFile(t, "acked"))) {
		if strings.HasPrefix(line, begin) {
			last = line
		}
	}
	return last
}

// resend sends a record once more from 127.0.0.3, with the number it had, and waits for
// its reply.
func resend(t *testing.T, addr, rec string) {
	t.Helper()
	from, err := net.ResolveTCPAddr("tcp", "127.0.0.3:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := (&net.Dialer{LocalAddr: from, Timeout: time.Minute}).Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := c.Write(remote.Append(nil, remote.Message, killedLast, []byte(rec))); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, remote.HeaderSize)); err != nil {
		t.Fatal(err)
	}
}
