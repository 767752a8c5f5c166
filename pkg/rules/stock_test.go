package rules

import (
	"bufio"
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/tables"
)

// recorded is one line of testdata/auditctl-3.0.9.jsonl: a command line and what
// auditctl 3.0.9 did with it on Debian 12.
type recorded struct {
	Line     string
	Args     []string
	Sent     int
	Flags    uint32
	Action   uint32
	Fields   [][3]uint32
	Syscalls any
	Mask63   uint32
	Buf      string
	Payload  string
	Listed   *string
	Kernel   string
	Exit     *int
	Stderr   string
}

func loadRecorded(t testing.TB) []recorded {
	t.Helper()
	f, err := os.Open("testdata/auditctl-3.0.9.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []recorded
	for s := bufio.NewScanner(f); s.Scan(); {
		var r recorded
		if err := json.Unmarshal(s.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		if list, ok := r.Syscalls.([]any); ok {
			nums := make([]int, len(list))
			for i, n := range list {
				nums[i] = int(n.(float64))
			}
			r.Syscalls = nums
		}
		all = append(all, r)
	}
	if len(all) != 914 {
		t.Fatalf("%d lines, want all 914", len(all))
	}
	return all
}

// accounts are those of the recording machine that the lines name.
type accounts map[string]uint32

func (a accounts) UserID(name string) (uint32, bool)  { n, ok := a[name]; return n, ok }
func (a accounts) GroupID(name string) (uint32, bool) { n, ok := a[name]; return n, ok }

// testEnv is the recording machine.
func testEnv() Env {
	return Env{
		Arch: tables.ArchX86_64, Accounts: accounts{"root": 0, "daemon": 1},
		IsDir: func(path string) bool {
			return slices.Contains([]string{"/", "/bin", "/etc", "/home", "/etc/apt", "/etc/apt/"}, path)
		},
	}
}

// newer is what audit 4.2 and we accept and 3.0.9 refuses, with the reason; the
// key is a substring of the line. Every one of them must be accepted.
var newer = []struct{ substr, reason string }{
	{"io_uring", "the io_uring list came with audit 3.1 (built with io_uring support)"},
	{"msgtype=DM_", "record types DM_CTRL and DM_EVENT (Linux 5.16)"},
	{"msgtype=LANDLOCK_", "record types of Landlock (Linux 6.15)"},
	{"-S map_shadow_stack ", "system call 453 (Linux 6.6)"},
	{"-S cachestat ", "system call 451 (Linux 6.5)"},
	{"-S fchmodat2 ", "system call 452 (Linux 6.6)"},
	{"-S statmount ", "system call 457 (Linux 6.8)"},
	{"-S listmount ", "system call 458 (Linux 6.8)"},
	{"-S mseal ", "system call 462 (Linux 6.10)"},
	{"-S setxattrat ", "system call 463 (Linux 6.13)"},
	{"-S open_tree_attr ", "system call 467 (Linux 6.15)"},
	{"-S file_getattr ", "system call 468 (Linux 6.17)"},
	{"-S file_setattr ", "system call 469 (Linux 6.17)"},
}

func newerReason(line string) string {
	for _, n := range newer {
		if strings.Contains(line, n.substr) {
			return n.reason
		}
	}
	return ""
}

// stillRefused are lines with something newer in them that are wrong all the same.
var stillRefused = map[string]string{
	"-a possible,io_uring -S openat -F uid=65533":                    "the action possible before a list",
	"-a always,io_uring -S openat -F pid=4194000 -C uid!=euid":       "-C goes with the exit list",
	"-a always,io_uring -S openat -F exit=-EACCES -F uid=65533":      "an exit list's field",
	"-a always,io_uring -S openat -F inode=12345 -F uid=65533":       "an exit list's field",
	"-a always,io_uring -S openat -F devminor=1 -F uid=65533":        "an exit list's field",
	"-a always,io_uring -S openat -F dir=/etc -F uid=65533":          "an exit list's field",
	"-a always,io_uring -S openat -F path=/etc/passwd -F uid=65533":  "an exit list's field",
	"-a always,io_uring -S openat -F ppid=4194000 -F uid=65533":      "an exit list's field",
	"-a always,io_uring -S openat -F success=0 -F uid=65533":         "an exit list's field",
	"-a always,io_uring -S openat -F obj_role=object_r -F uid=65533": "an exit list's field",
	"-a always,io_uring -S openat -F obj_type=etc_t -F uid=65533":    "an exit list's field",
	"-a always,io_uring -S openat -F obj_lev_low=s0 -F uid=65533":    "an exit list's field",
	"-a always,io_uring -F uid=65533 -F key=iou":                     "-F key= without -S before it, on any list",
	"-A io_uring,possible -S openat -F uid=65533":                    "the action possible: said to be deprecated and skipped, exit code 0",
	"-a always,io_uring -S readv -F uid=65533":                       "readv is not audited by io_uring",
	"-a always,io_uring -S nop -F uid=65533":                         "nop is not audited by io_uring",
	"-a always,io_uring -S url_cmd -F uid=65533":                     "no such operation: uring_cmd is meant",
	"-a always,io_uring -S fsync -F uid=65533":                       "fsync is not audited by io_uring",
}

func TestRecordedSent(t *testing.T) {
	n := 0
	for _, r := range loadRecorded(t) {
		if r.Sent == 0 {
			continue
		}
		n++
		got := Explain(r.Args, testEnv())
		if len(got) != 1 {
			t.Errorf("%s: %d operations", r.Line, len(got))
			continue
		}
		e := got[0]
		if e.Error != "" {
			t.Errorf("%s: refused: %s", r.Line, e.Error)
			continue
		}
		if e.Sent != r.Sent || e.Payload != r.Payload {
			t.Errorf("%s: sent %d %s, want %d %s", r.Line, e.Sent, e.Payload, r.Sent, r.Payload)
		}
		if r.Payload != "" {
			continue
		}
		if *e.Flags != r.Flags || *e.Action != r.Action || *e.Buf != r.Buf ||
			!reflect.DeepEqual(e.Fields, r.Fields) || !reflect.DeepEqual(e.Syscalls, r.Syscalls) {
			t.Errorf("%s: %d %d %v %v %q, want %d %d %v %v %q", r.Line, *e.Flags, *e.Action, e.Fields, e.Syscalls, *e.Buf,
				r.Flags, r.Action, r.Fields, r.Syscalls, r.Buf)
		}
		if *e.Mask63 != r.Mask63 {
			t.Errorf("%s: top word 0x%x, want 0x%x", r.Line, *e.Mask63, r.Mask63)
		}
	}
	if n != 694 {
		t.Errorf("%d accepted lines, want 694", n)
	}
}

func TestRecordedRefused(t *testing.T) {
	refused, accepted := 0, 0
	for _, r := range loadRecorded(t) {
		if r.Sent != 0 {
			continue
		}
		e := Explain(r.Args, testEnv())[0]
		if e.Error == "" {
			if newerReason(r.Line) == "" {
				t.Errorf("%s: accepted, auditctl says %s", r.Line, r.Stderr)
			}
			accepted++
			continue
		}
		refused++
		if reason := newerReason(r.Line); reason != "" {
			if stillRefused[r.Line] == "" {
				t.Errorf("%s: refused (%s; %s), though %s", r.Line, e.Error, e.Hint, reason)
			}
			continue
		}
		said := strings.Join(append(e.Warnings, e.Error), "\n")
		if *e.Exit != *r.Exit || strings.TrimSpace(said) != r.Stderr {
			t.Errorf("%s: exit %d, %q, want %d, %q", r.Line, *e.Exit, said, *r.Exit, r.Stderr)
		}
	}
	t.Logf("%d refused as auditctl does, %d accepted as audit 4.2 does", refused, accepted)
}

// listedOtherwise is where our listing differs from auditctl 3.0.9's, with the
// reason. In all but the last two groups auditctl's own line loads another rule,
// or none; TestListingDifferences shows it.
var listedOtherwise = []struct {
	reason string
	lines  int
	is     func(r recorded) bool
}{
	{"exe!= is listed as exe=", 2, has("exe!=")},
	{"key!= is listed as key=", 1, has("key!=")},
	{"a watch whose permissions come first is garbled: ' -p x-w /usr/bin/npm'", 4, has("-F perm=x -F path", "-F perm=wa -F path")},
	{"a dir with a slash at its end loses it as a watch", 3, has("dir=/etc/selinux/", "dir=/etc/ ", "dir=/etc/apt/")},
	{"dir= of a file, or path= of a directory, becomes the other as a watch", 2, has("dir=/etc/hostname", "path=/etc/apt")},
	{"a space ends a word of a rule file: it is escaped", 3, has("a b")},
	{"-C goes with the exit list only; elsewhere field_compare is the form", 2, has("field_compare")},
	{"filetype takes no number", 4, has("filetype")},
	{"b64 and b32 are this machine's: another's is named", 10, has("arch=arm", "arch!=arm", "arch!=aarch64", "arch=s390", "arch!=s390", "arch!=ppc")},
	{"a negative number is no value of this field", 3, has("devmajor=4294967295", "pid=4294967295")},
	{"the kernel replaces its class bits by the class's calls (see TestKernelRecorded)", 2, has("-S 2047")},
	{"3.0.9 has no name for it; audit 4.2 lists the name, as we do", 3, has("msgtype=1423", "-S 466")},
}

func has(substrs ...string) func(recorded) bool {
	return func(r recorded) bool {
		for _, s := range substrs {
			if strings.Contains(r.Line+" ", s) {
				return true
			}
		}
		return false
	}
}

// TestRecordedListing compares listings, and loads each of ours again.
func TestRecordedListing(t *testing.T) {
	same, counts := 0, make([]int, len(listedOtherwise))
	for _, r := range loadRecorded(t) {
		if r.Sent != 1011 {
			continue
		}
		c, err := ParseArgs(r.Args, testEnv())
		if err != nil {
			t.Fatal(err)
		}
		rule := c.Rule()
		got := rule.Text(testEnv(), TextOptions{})
		if back := mustParse(t, got); !back.Equal(rule) {
			t.Errorf("%s: listed as %s, which loads another rule", r.Line, got)
		}
		if r.Listed == nil {
			continue
		}
		if got == *r.Listed {
			same++
			continue
		}
		i := slices.IndexFunc(listedOtherwise, func(l struct {
			reason string
			lines  int
			is     func(r recorded) bool
		}) bool {
			return l.is(r)
		})
		if i < 0 {
			t.Errorf("%s\n listed as %s\n auditctl: %s", r.Line, got, *r.Listed)
			continue
		}
		counts[i]++
	}
	differ := 0
	for i, l := range listedOtherwise {
		differ += counts[i]
		if counts[i] != l.lines {
			t.Errorf("%s: %d lines, want %d", l.reason, counts[i], l.lines)
		}
	}
	t.Logf("%d listed as auditctl does, %d otherwise", same, differ)
}

// TestListingDifferences shows that auditctl's own line is wrong where ours
// differs: it does not load the rule it was printed for.
func TestListingDifferences(t *testing.T) {
	for _, r := range loadRecorded(t) {
		if r.Listed == nil || r.Sent != 1011 {
			continue
		}
		for _, l := range listedOtherwise[:len(listedOtherwise)-2] {
			if !l.is(r) {
				continue
			}
			c, err := ParseArgs(r.Args, testEnv())
			if err != nil {
				t.Fatal(err)
			}
			if c.Rule().Text(testEnv(), TextOptions{}) == *r.Listed {
				continue
			}
			back, err := ParseArgs(Args(SplitLine(*r.Listed)), testEnv())
			if err == nil && back.Rule() != nil && back.Rule().Equal(c.Rule()) {
				t.Errorf("%s: %q loads the same rule, so ours need not differ (%s)", r.Line, *r.Listed, l.reason)
			}
		}
	}
}

func mustParse(t testing.TB, line string) *Rule {
	t.Helper()
	c, err := ParseArgs(Args(SplitLine(line)), testEnv())
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	if c.Rule() == nil {
		t.Fatalf("%s: no rule", line)
	}
	return c.Rule()
}

// TestRecordedRefusals: Refusal tells what the recording kernel refused with
// EINVAL, and nothing else.
func TestRecordedRefusals(t *testing.T) {
	n := 0
	for _, r := range loadRecorded(t) {
		if r.Sent != 1011 {
			continue
		}
		c, err := ParseArgs(r.Args, testEnv())
		if err != nil {
			t.Fatal(err)
		}
		why := c.Rule().Refusal()
		refused := strings.Contains(r.Kernel, "Invalid argument")
		if refused {
			n++
		}
		if refused && why == "" || why != "" && r.Listed != nil {
			t.Errorf("%s: %q, but kernel: %q, listed: %t", r.Line, why, r.Kernel, r.Listed != nil)
		}
	}
	if n != 84 {
		t.Errorf("%d refused, want 84", n)
	}
}
