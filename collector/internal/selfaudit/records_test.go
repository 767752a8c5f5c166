package selfaudit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/listen"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/daemonrec"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/pkg/metrics/metricstest"
	"github.com/auditfleet/auditfleet/pkg/pki"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeJournal stores at once, unless it is told otherwise.
type fakeJournal struct {
	fails error         // of Submit
	hangs chan struct{} // Submit waits for it when it is not nil
	never bool          // done is not called

	mu      sync.Mutex
	stored  []string // guarded by mu
	senders []journal.Sender
}

func (j *fakeJournal) Submit(ctx context.Context, b *journal.Batch, done func(error)) error {
	if j.hangs != nil {
		select {
		case <-j.hangs:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if j.fails != nil || j.never {
		return j.fails
	}
	if b.Bytes() > journal.MaxBatch {
		return journal.ErrTooLarge
	}
	j.mu.Lock()
	j.senders = append(j.senders, b.Sender)
	for _, r := range b.Records {
		j.stored = append(j.stored, string(r.Raw))
	}
	j.mu.Unlock()
	done(nil)
	return nil
}

var header = regexp.MustCompile(`^node=c type=(\S+) msg=audit\(1700000000\.007:(\d+)\): `)

// texts are the stored records, their header cut to the type.
func (j *fakeJournal) texts() (out []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range j.stored {
		out = append(out, header.ReplaceAllString(s, "$1 "))
	}
	return out
}

type fixture struct {
	*Records
	j        fakeJournal
	reg      *metrics.Registry
	log      need.Buffer
	refusing atomic.Bool
}

func open(f *fixture, now func() time.Time) *fixture {
	f.reg = metrics.New()
	f.Records = Open(Config{
		Journal: &f.j, Node: "c", Now: now, Log: hclog.New(&hclog.LoggerOptions{Output: &f.log}),
		Metrics: metrics.NewOwnRecords(f.reg), Refusing: f.refusing.Load,
	})
	return f
}

func still() time.Time { return time.Unix(1700000000, 7e6) }

func TestWords(t *testing.T) {
	f := open(&fixture{}, still)
	peer := netip.MustParseAddrPort("192.0.2.1:61")
	f.Start("1.2")
	f.Reconfigured(false)
	f.Reconfigured(true)
	f.Rotated(false)
	f.Rotated(true)
	f.Resumed()
	f.Failed("disk-full")
	f.Connection(listen.Report{Peer: peer})
	f.Connection(listen.Report{Peer: peer, Op: "dup"})
	f.Connection(listen.Report{Peer: peer, Close: true})
	f.Refused(netip.MustParseAddrPort("[::ffff:192.0.2.7]:9"), "we b", "tls-revoked")
	f.Certificate(Certificate{Op: "enroll", Host: "web1", Token: "0a0b", Serial: "4f", Fingerprint: "abab", Peer: peer})
	f.Certificate(Certificate{Op: "create-token", Host: "w\x01", Token: "0a0b"})
	f.Certificate(Certificate{Op: "enroll-refused", Token: "0a0b", Peer: peer, Reason: "token-used"})
	f.Session(peer, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 9), Port: 60}, "web1", pki.Session{Cipher: "TLS_AES_128_GCM_SHA256", Bits: 128, Group: "X25519MLKEM768", Auth: pki.AuthCert})
	web1, web2 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	f.Notice(head.Notice{Kind: head.NewAddress, Name: "web1", Addr: web1})
	f.Notice(head.Notice{Kind: head.ByTurns, Name: "we b\x01", Addr: web1, Was: web2, Omitted: 3})
	f.Notice(head.Notice{Kind: head.TooManyNames, Name: "x", Addr: web1})
	f.refusing.Store(true)
	f.Connection(listen.Report{Peer: peer})
	f.Notice(head.Notice{Kind: head.NewAddress, Name: "web1", Addr: web1})
	f.Failed("suspend-logging")
	f.Close()
	f.Add("DAEMON_ERR", "too late")
	got := f.j.texts()
	own := func(s string) string {
		return strings.NewReplacer("PID", strconv.Itoa(os.Getpid()), "UID", strconv.Itoa(os.Getuid()), "EXE", f.exe,
			"LOGIN", daemonrec.ProcessID("self", "loginuid"), "SESSION", daemonrec.ProcessID("self", "sessionid")).Replace(s)
	}
	want := []string{
		"DAEMON_CONFIG op=reconfigure state=changed auid=-1 pid=-1 subj=? res=success",
		"DAEMON_CONFIG op=reconfigure state=no-change auid=-1 pid=-1 subj=? res=failed",
		"DAEMON_ROTATE op=rotate-logs auid=-1 pid=-1 subj=? res=success",
		"DAEMON_ROTATE op=rotate-logs auid=-1 pid=-1 subj=? res=failed",
		"DAEMON_RESUME op=resume-logging auid=-1 pid=-1 subj=? res=success",
		"DAEMON_ERR op=disk-full auid=-1 pid=-1 subj=? res=failed",
		"DAEMON_ACCEPT addr=192.0.2.1 port=61 res=success",
		"DAEMON_ACCEPT op=dup addr=192.0.2.1 port=61 res=no",
		"DAEMON_CLOSE addr=192.0.2.1 port=61 res=success",
		"DAEMON_ACCEPT op=tls-revoked acct=77652062 addr=192.0.2.7 port=9 res=no",
		`DAEMON_CONFIG op=enroll host="web1" token=0a0b serial=4f fingerprint=abab addr=192.0.2.1 port=61 auid=-1 pid=-1 subj=? res=success`,
		"DAEMON_CONFIG op=create-token host=7701 token=0a0b auid=-1 pid=-1 subj=? res=success",
		"DAEMON_ACCEPT op=enroll-refused token=0a0b reason=token-used addr=192.0.2.1 port=61 res=no",
		"CRYPTO_SESSION " + own(`pid=PID uid=UID auid=LOGIN ses=SESSION msg='op=start direction=from-client cipher=TLS_AES_128_GCM_SHA256 ksize=128 mac=<implicit> pfs=X25519MLKEM768 auth=cert acct="web1" spid=PID suid=UID rport=61 laddr=192.0.2.9 lport=60 exe=EXE hostname=? addr=192.0.2.1 terminal=? res=success'`),
		`DAEMON_ERR op=new-address host="web1" addr=192.0.2.1 old-addr=? omitted=0 informative=yes res=success`,
		"DAEMON_ERR op=two-addresses host=7765206201 addr=192.0.2.1 old-addr=192.0.2.2 omitted=3 informative=yes res=success",
		`DAEMON_ERR op=too-many-names host="x" addr=192.0.2.1 omitted=0 informative=yes res=success`,
		"DAEMON_ERR op=suspend-logging auid=-1 pid=-1 subj=? res=failed",
	}
	if len(got) != len(want)+2 || !strings.HasPrefix(got[0], "DAEMON_START op=start ver=1.2 ") || !strings.HasPrefix(got[len(got)-1], "DAEMON_END op=terminate ") {
		t.Fatalf("stored\n%s", strings.Join(got, "\n"))
	}
	if diff := cmp.Diff(want, got[1:len(got)-1]); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	if want := (journal.Sender{Node: "c", Transport: event.TransportOwn}); f.j.senders[0] != want {
		t.Errorf("sent by %+v", f.j.senders[0])
	}
	if n := metricstest.Value(t, f.reg, "auditfleet_collector_own_records_dropped_total", ""); n != 1 {
		t.Errorf("%v are counted as dropped, want 1", n)
	}
}

// Whoever knocks in a loop has so many refusals stored a minute, and does not hide others;
// a record, the log and a counter say how many more there were.
func TestRefusalsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := open(&fixture{}, time.Now)
		knock := func(from string, n int) {
			for range n {
				f.Connection(listen.Report{Peer: netip.MustParseAddrPort(from), Op: "dup"})
			}
		}
		said := func(n int) int {
			f.j.mu.Lock()
			defer f.j.mu.Unlock()
			count := 0
			for _, s := range f.j.stored {
				if strings.Contains(s, "type=DAEMON_ERR msg=audit(") && strings.HasSuffix(s, fmt.Sprintf("op=refusals-omitted connections=%d informative=yes res=success", n)) {
					count++
				}
			}
			return count
		}
		knock("192.0.2.1:61", refusalsPerAddress+7)
		knock("[::ffff:192.0.2.1]:61", 1)                                          // the same one
		f.Connection(listen.Report{Peer: netip.MustParseAddrPort("192.0.2.2:61")}) // not one of them
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		if n := len(f.j.stored); n != refusalsPerAddress+2 || said(8) != 1 {
			t.Errorf("%d records, want %d; said %d times", n, refusalsPerAddress+2, said(8))
		}
		for i := range 2 * refusalsPerMinute / refusalsPerAddress {
			knock(fmt.Sprintf("192.0.2.%d:61", i+1), refusalsPerAddress)
		}
		f.Close() // says the rest
		if n := len(f.j.stored); n != refusalsPerAddress+2+refusalsPerMinute+1 || said(refusalsPerMinute) != 1 {
			t.Errorf("%d records, want %d; said %d times", n, refusalsPerAddress+2+refusalsPerMinute+1, said(refusalsPerMinute))
		}
		if log := f.log.String(); !strings.Contains(log, "omitted=8") {
			t.Errorf("the log:\n%s", log)
		}
		if n := metricstest.Value(t, f.reg, "auditfleet_collector_own_records_omitted_total", ""); n != refusalsPerMinute+8 {
			t.Errorf("%v are counted", n)
		}
	})
}

// Whoever connects and leaves in a loop has so many records of it stored a minute, and does
// not hide others.
func TestConnectionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := open(&fixture{}, time.Now)
		from := netip.MustParseAddrPort("192.0.2.1:61")
		for range connectionsPerAddress {
			f.Connection(listen.Report{Peer: from})
			f.Connection(listen.Report{Peer: from, Close: true})
		}
		f.Connection(listen.Report{Peer: netip.MustParseAddrPort("192.0.2.2:61")})
		f.Connection(listen.Report{Peer: from, Op: "dup"}) // counted apart
		f.Close()
		last := f.j.stored[len(f.j.stored)-1]
		if n := len(f.j.stored); n != connectionsPerAddress+3 || !strings.HasSuffix(last, fmt.Sprintf("op=connections-omitted connections=%d informative=yes res=success", connectionsPerAddress)) {
			t.Errorf("%d records, the last one %s", n, last)
		}
	})
}

// A journal that takes nothing holds up nobody: what its queue has no room for is
// dropped, counted and said once a second, and the end waits for a while only.
func TestJournalThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := open(&fixture{j: fakeJournal{hangs: make(chan struct{})}}, time.Now)
		f.Add("DAEMON_ERR", "first")
		synctest.Wait() // it is at the journal
		for i := range queueLength + 5 {
			f.Add("DAEMON_ERR", "n=%d", i)
		}
		if n := metricstest.Value(t, f.reg, "auditfleet_collector_own_records_dropped_total", ""); n != 5 {
			t.Errorf("%v are counted as dropped, want 5", n)
		}
		if n := strings.Count(f.log.String(), "are dropped"); n != 1 {
			t.Errorf("said %d times", n)
		}
		began := time.Now()
		f.Close()
		if waited := time.Since(began); waited != closeTime {
			t.Errorf("closed after %v, want %v", waited, closeTime)
		}
		if n := metricstest.Value(t, f.reg, "auditfleet_collector_own_records_dropped_total", ""); n != queueLength+6 {
			t.Errorf("%v are counted as dropped at the end, want all", n)
		}
	})
}

// What waited for a journal that hung is stored when it goes on, however much it is: as batches that the
// journal takes.
func TestMuchThatWaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := open(&fixture{j: fakeJournal{hangs: make(chan struct{})}}, time.Now)
		const n = 3000 // of 4 KiB: more than journal.MaxBatch
		for range n {
			f.Add("DAEMON_ERR", "%s", strings.Repeat("x", 4<<10))
		}
		synctest.Wait()
		close(f.j.hangs)
		f.Close()
		if got := len(f.j.texts()); got != n || f.Dropped() != 0 {
			t.Errorf("%d records stored and %d dropped, want %d", got, f.Dropped(), n)
		}
	})
}

// A journal that took a batch and is never started, and one that refuses.
func TestJournalThatStoresNothing(t *testing.T) {
	for name, j := range map[string]*fakeJournal{"is never started": {never: true}, "refuses": {fails: errors.New("broken")}} {
		synctest.Test(t, func(t *testing.T) {
			f := &fixture{}
			f.j.never, f.j.fails = j.never, j.fails
			open(f, time.Now)
			f.Add("DAEMON_ERR", "x")
			f.Close()
			f.Close()
			if n := f.Dropped(); n != 1 || !strings.Contains(f.log.String(), "were not stored: records=1") {
				t.Errorf("a journal that %s: %d are counted; the log:\n%s", name, n, f.log.String())
			}
		})
	}
}
