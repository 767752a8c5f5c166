package kernel_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	libaudit "github.com/elastic/go-libaudit/v2"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/fakekernel"
)

// The layout of the status against an implementation of its own.
func TestStatusLayoutIsLibaudits(t *testing.T) {
	ours := kernel.Status{Mask: 1, Enabled: 2, Failure: 3, PID: 4, RateLimit: 5, BacklogLimit: 6, Lost: 7, Backlog: 8,
		FeatureBitmap: 9, BacklogWaitTime: 10, BacklogWaitTimeActual: 11}
	wire := ours.Append(nil)
	var theirs libaudit.AuditStatus
	if err := theirs.FromWireFormat(wire); err != nil {
		t.Fatal(err)
	}
	got := kernel.Status{Mask: uint32(theirs.Mask), Enabled: theirs.Enabled, Failure: theirs.Failure, PID: theirs.PID,
		RateLimit: theirs.RateLimit, BacklogLimit: theirs.BacklogLimit, Lost: theirs.Lost, Backlog: theirs.Backlog,
		FeatureBitmap: theirs.FeatureBitmap, BacklogWaitTime: theirs.BacklogWaitTime, BacklogWaitTimeActual: theirs.BacklogWaitTimeActual}
	if diff := cmp.Diff(ours, got); diff != "" {
		t.Error(diff)
	}
	for n := range wire {
		s, err := kernel.ParseStatus(wire[:n])
		if (err == nil) != (n >= 32) {
			t.Errorf("%d bytes: %v, want an error below 32 only", n, err)
		}
		if n >= 32 && s.Backlog != 8 {
			t.Errorf("%d bytes: backlog %d, want 8", n, s.Backlog)
		}
	}
}

func TestParseMessage(t *testing.T) {
	record := kernel.AppendMessage(nil, kernel.Message{Type: 1300, Payload: []byte("audit(1.000:1): a=b")})[:16+19]
	quirk := bytes.Clone(record)
	binary.NativeEndian.PutUint32(quirk, 19) // without the header, as sent to the daemon
	huge := bytes.Clone(record)
	binary.NativeEndian.PutUint32(huge, 1<<31)
	answer := kernel.AppendMessage(nil, kernel.Message{Type: unix.NLMSG_ERROR, Seq: 7, Payload: []byte{0, 0, 0, 0}})
	short := bytes.Clone(answer)
	binary.NativeEndian.PutUint32(short, 15)
	long := bytes.Clone(answer)
	binary.NativeEndian.PutUint32(long, 21)
	for _, c := range []struct {
		name    string
		in      []byte
		payload string
		bad     bool
	}{
		{"record", record, "audit(1.000:1): a=b", false},
		{"record, length without header", quirk, "audit(1.000:1): a=b", false},
		{"record, length that lies", huge, "audit(1.000:1): a=b", false},
		{"answer", answer, "\x00\x00\x00\x00", false},
		{"answer shorter than its header", short, "", true},
		{"answer longer than the datagram", long, "", true},
		{"nothing", nil, "", true},
		{"half a header", record[:15], "", true},
	} {
		m, err := kernel.ParseMessage(c.in)
		if (err != nil) != c.bad || c.bad && !errors.Is(err, kernel.ErrMessage) {
			t.Errorf("%s: error %v", c.name, err)
		}
		if string(m.Payload) != c.payload {
			t.Errorf("%s: payload %q, want %q", c.name, m.Payload, c.payload)
		}
	}
}

// feed answers every request with one datagram, whatever it is.
type feed struct {
	kernel.Socket
	answer []byte
	sent   bool
}

func (f *feed) Send([]byte) error { f.sent = true; return nil }

func (f *feed) Recv(d []kernel.Datagram) (int, error) {
	if !f.sent {
		return 0, unix.ECANCELED
	}
	f.sent = false
	d[0].N = copy(d[0].Buf, f.answer)
	d[0].Foreign = false
	return 1, nil
}

func (f *feed) Close() error { return nil }

// Answers with lengths that lie: an error, never a panic, and never a rule or
// status made of bytes that were not sent.
func FuzzAnswers(f *testing.F) {
	add := func(typ uint16, payload []byte) {
		f.Add(kernel.AppendMessage(nil, kernel.Message{Type: typ, Seq: 1, Payload: payload}))
	}
	add(kernel.MsgGet, kernel.Status{Enabled: 1}.Append(nil))
	add(kernel.MsgListRules, make([]byte, 1040))
	rule := make([]byte, 1044)
	binary.NativeEndian.PutUint32(rule[1036:], 5)
	add(kernel.MsgListRules, rule)
	add(unix.NLMSG_ERROR, []byte{0xff, 0xff, 0xff, 0xff})
	add(unix.NLMSG_ERROR, []byte{1, 0})
	add(unix.NLMSG_DONE, nil)
	add(kernel.MsgSignalInfo, []byte("12345678ctx\x00"))
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		s := &feed{answer: answer}
		c := kernel.NewConn(s)
		defer c.Close()
		try := func(err error) {
			if err == nil {
				t.Fatalf("one datagram %x passed for an acknowledgement and an answer", answer)
			}
		}
		_, err := c.Status()
		try(err)
		rules, _ := c.Rules()
		for _, r := range rules {
			if !bytes.Contains(answer, r) {
				t.Fatalf("a rule of bytes that were not sent: %x of %x", r, answer)
			}
		}
		_, err = c.SignalInfo()
		try(err)
		_, err = c.Features()
		try(err)
		m, err := kernel.ParseMessage(answer)
		if err == nil && !kernel.IsRecord(m.Type) && m.Type != kernel.MsgReplace {
			again, err := kernel.ParseMessage(kernel.AppendMessage(nil, m))
			if err != nil || cmp.Diff(m, again) != "" {
				t.Fatalf("%+v comes back as %+v, %v", m, again, err)
			}
		}
	})
}

func TestControl(t *testing.T) {
	k := fakekernel.New()
	c := k.Conn(10)
	defer c.Close()
	if err := c.Set(kernel.Status{Mask: kernel.MaskBacklogLimit, BacklogLimit: 8192, Enabled: 1}); err != nil {
		t.Fatal(err)
	}
	s, err := c.Status()
	if err != nil || s.BacklogLimit != 8192 || s.Enabled != 0 {
		t.Fatalf("status %+v, %v: want backlog_limit 8192 and nothing else changed", s, err)
	}
	rule := make([]byte, 1040)
	rule[0] = 4
	for _, step := range []struct {
		name string
		do   func([]byte) error
		want error
	}{
		{"delete what is not there", c.DeleteRule, unix.ENOENT},
		{"add", c.AddRule, nil},
		{"add again", c.AddRule, unix.EEXIST},
	} {
		if err := step.do(rule); !errors.Is(err, step.want) {
			t.Errorf("%s: %v, want %v", step.name, err, step.want)
		}
	}
	rules, err := c.Rules()
	if err != nil || len(rules) != 1 || !bytes.Equal(rules[0], rule) {
		t.Errorf("rules %x, %v", rules, err)
	}
	if err := c.DeleteRule(rule); err != nil {
		t.Error(err)
	}
	if rules, err := c.Rules(); err != nil || len(rules) != 0 {
		t.Errorf("rules after delete: %x, %v", rules, err)
	}
	if err := c.AddRule(rule[:100]); !errors.Is(err, unix.EINVAL) {
		t.Errorf("half a rule: %v, want EINVAL", err)
	}
	if err := c.SetFeatures(kernel.Features{Mask: kernel.FeatureLoginUIDImmutable, Features: kernel.FeatureLoginUIDImmutable, Lock: kernel.FeatureLoginUIDImmutable}); err != nil {
		t.Error(err)
	}
	if f, err := c.Features(); err != nil || f.Features != kernel.FeatureLoginUIDImmutable {
		t.Errorf("features %+v, %v", f, err)
	}
	if err := c.SetFeatures(kernel.Features{Mask: kernel.FeatureLoginUIDImmutable}); !errors.Is(err, unix.EPERM) {
		t.Errorf("a locked feature: %v, want EPERM", err)
	}
	k.SetSignal(kernel.SignalInfo{UID: 1000, PID: 77, Ctx: "ctx\x00"})
	if s, err := c.SignalInfo(); err != nil || s != (kernel.SignalInfo{UID: 1000, PID: 77, Ctx: "ctx"}) {
		t.Errorf("signal info %+v, %v", s, err)
	}
	if err := c.Trim(); err != nil {
		t.Error(err)
	}
}

// A kernel that is locked until reboot is only ever a fake one.
func TestImmutableKernel(t *testing.T) {
	k := fakekernel.New()
	k.SetStatus(func(s *kernel.Status) { s.Enabled = 2 })
	c := k.Conn(10)
	for name, err := range map[string]error{
		"rule":   c.AddRule(make([]byte, 1040)),
		"status": c.Set(kernel.Status{Mask: kernel.MaskEnabled, Enabled: 0}),
	} {
		var op *kernel.OpError
		if !errors.Is(err, unix.EPERM) || !errors.As(err, &op) || op.Op == "" {
			t.Errorf("%s on a locked kernel: %v, want EPERM with the operation", name, err)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(); !errors.Is(err, unix.EBADF) {
		t.Errorf("after Close: %v, want EBADF", err)
	}
}
