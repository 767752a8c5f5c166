package interpret

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/nss"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/search/reallog"
)

func TestMain(m *testing.M) {
	if reallog.Main() { // as the workload of a recording
		return
	}
	os.Exit(m.Run())
}

// userMessages are texts a program sends to the kernel's audit, by type: what it
// writes into USER_* records, nested fields in and out of shape.
func userMessages(r *rand.Rand, n int) []string {
	names := []string{
		"uid", "auid", "gid", "id", "euid", "fsgid", "ouid", "ogid", "old-auid", "sauid", "new_gid", "obj_uid", "inode_gid", "oauid",
		"saddr", "arch", "syscall", "acct", "exe", "op", "pid", "ses", "res", "addr", "hostname", "fp", "mode", "xuid", "UID", "grantors",
	}
	values := []string{
		"0", "1", "2", "5", "1000", "65534", "4321", "4294967295", "4294967294", "-1", "0x1f", "x", "?", "", "99999999999999999999",
		`"0"`, `"root"`, "'2'", "1,", "1)", "1'", "1:", "c000003e", "40000003", "zz", "257", `"a b"`, `"a uid=5"`, "success", "1.2.3.4",
		"02000035080808080000000000000000", "01002F746D702F612062", "100000000000000000000000", "0100", "0A0000350000", "1",
	}
	types := []int{1100, 1100, 1107, 1108, 1112, 1116, 1117, 1121, 1123, 1132, 1130, 2100, 2404, 2500}
	msgs := make([]string, 0, n)
	for range n {
		var words []string
		for range r.IntN(8) {
			word := oneOf(r, names) + "=" + oneOf(r, values)
			if r.IntN(6) == 0 {
				word = oneOf(r, []string{"(", "'", "old ", "msg=", "x,", "{", " ", "avc: "}) + word
			}
			words = append(words, word)
		}
		if r.IntN(5) == 0 {
			words = append(words, "saddr="+randomSockAddr(r))
		}
		words = append(words, oneOf(r, []string{"res=1", "res=failed)", "end", "hostname=? addr=? terminal=ssh res=success"}))
		msgs = append(msgs, fmt.Sprintf("%d %s", oneOf(r, types), strings.Join(words, oneOf(r, []string{" ", " ", " ", "  ", ", "}))))
	}
	return msgs
}

// sendUserMessages sends them to the kernel, each "TYPE text", and waits for its
// answer to each.
func sendUserMessages(t *testing.T, msgs []string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_AUDIT)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	answer := make([]byte, 16384)
	for i, msg := range msgs {
		var typ uint16
		_, text, _ := strings.Cut(msg, " ")
		if _, err := fmt.Sscanf(msg, "%d", &typ); err != nil {
			t.Fatal(err)
		}
		data := append([]byte(text), 0)
		b := make([]byte, unix.NLMSG_HDRLEN, unix.NLMSG_HDRLEN+len(data))
		binary.NativeEndian.PutUint32(b[0:], uint32(unix.NLMSG_HDRLEN+len(data)))
		binary.NativeEndian.PutUint16(b[4:], typ)
		binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK)
		binary.NativeEndian.PutUint32(b[8:], uint32(i+1))
		if err := unix.Sendto(fd, append(b, data...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			t.Fatalf("send %q: %v", msg, err)
		}
		if _, _, err := unix.Recvfrom(fd, answer, 0); err != nil {
			t.Fatalf("answer to %q: %v", msg, err)
		}
	}
}

// compareTails cuts the tail off each record of an enriched log, makes it again
// and compares, returning how many of them have one and how many of those differ
// as DIFFERENCES.md says, by name.
func compareTails(t *testing.T, in *Interpreter, log []byte) (records, tails int, known map[string]int) {
	t.Helper()
	differ := 0
	known = map[string]int{}
	for line := range bytes.Lines(log) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		var r record.Record
		if r.Parse(line) != nil {
			continue // the rest of one whose address has a newline
		}
		records++
		raw := line
		if r.Enriched != nil {
			raw = line[:len(line)-len(r.Enriched)-1]
			tails++
		}
		var cut record.Record
		if err := cut.Parse(raw); err != nil {
			t.Fatal(err)
		}
		got := in.AppendEnriched(bytes.Clone(raw), &cut)
		if bytes.Equal(got, line) {
			continue
		}
		// What else differs is told with ids as stock reads them.
		var other record.Record
		asStock := []byte(wordsAsStock(string(raw)))
		if err := other.Parse(asStock); err != nil {
			t.Fatal(err)
		}
		stock := unsignedIDs(string(line[len(raw):]))
		var name string
		if tail := string(in.AppendEnriched(nil, &other)); tail == stock {
			if name = "no-id"; bytes.Equal(asStock, raw) {
				name = "large-id"
			}
		} else {
			name = knownTail(string(raw), tail, stock)
		}
		if name != "" {
			known[name]++
			continue
		}
		if differ++; differ <= 10 {
			t.Errorf("%q\nours  %q\nstock %q", raw, got[len(raw):], line[len(raw):])
		}
	}
	return records, tails, known
}

// TestEnrichedAsStockNow compares the tails that the stock daemon writes, today,
// of what this machine's kernel says, and of what a program says through it.
func TestEnrichedAsStockNow(t *testing.T) {
	if testing.Short() {
		t.Skip("records from the kernel")
	}
	r := rand.New(rand.NewPCG(need.Seed(t), 99))
	log := reallog.Record(t, reallog.Config{Enriched: true, During: func() {
		for _, d := range knownTails {
			sendUserMessages(t, []string{d.message})
		}
		sendUserMessages(t, userMessages(r, 2000))
		time.Sleep(200 * time.Millisecond) // the daemon reads what is left
	}})
	if path := os.Getenv("AUDITFLEET_KEEP_LOG"); path != "" {
		if err := os.WriteFile(path, log, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	records, tails, known := compareTails(t, New(Config{Names: nss.New(nss.Config{})}), log)
	t.Logf("compared %d records, %d of them with a tail, by known differences: %v", records, tails, known)
	for _, d := range knownTails {
		if known[d.name] == 0 {
			t.Errorf("the stock daemon's tail of %q is ours: %s is no difference", d.message, d.name)
		}
	}
	if tails < 2000 {
		t.Errorf("only %d records had a tail", tails)
	}
}

// TestEnrichedAsStock compares those of a recorded log.
func TestEnrichedAsStock(t *testing.T) {
	log, err := os.ReadFile("testdata/enriched.log")
	if err != nil {
		t.Fatal(err)
	}
	records, tails, _ := compareTails(t, New(Config{Names: fakeNames{}}), log)
	if records < 100 || tails < 80 {
		t.Errorf("only %d records, %d with a tail", records, tails)
	}
}
