package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/rules"
	"github.com/auditfleet/auditfleet/pkg/rules/ruleset"
)

// getppidRule is a rule that nothing on the machine matches, or, with an exe of
// the test's, that one program's getppid calls. The folder of an exe must be
// there, the program need not.
func getppidRule(action, exe, key string) string {
	return "-a " + action + ",exit -F arch=b64 -S getppid -F exe=" + exe + " -F key=" + key
}

var failedLine = regexp.MustCompile(`There was an error in line (\d+) of`)

// TestLiveReadFile: the stock auditctl and ours read the same files; the rules
// they load, the exit codes and the lines they stop at are the same. Left out are
// two things we read otherwise: a carriage return at the end of a line, which
// auditctl makes a part of the key, and a line of more than about 8,000 bytes,
// which it reads as two.
func TestLiveReadFile(t *testing.T) {
	liveKernel(t)
	a, b, c := getppidRule("always", "/etc/af-none-a", "af-test"), getppidRule("always", "/etc/af-none-b", "af-test"), getppidRule("never", "/etc/af-none-c", "af-test")
	for name, text := range map[string]string{
		"comments":             "# c\n\n   # indented\n" + a + "\n    \n" + b + "\n",
		"a bad line":           a + "\n-a always,exit -S nosuch\n" + b + "\n",
		"-c":                   "-c\n" + a + "\n-a always,exit -S nosuch\n-X\n" + b + "\n",
		"-i":                   "-i\n" + a + "\n-a always,exit -S nosuch\n" + b + "\n",
		"-c and -i":            "-c\n-i\n-S nosuch\n" + a + "\n",
		"-i and -c":            "-i\n-c\n-S nosuch\n" + a + "\n",
		"-c -i":                "-c -i\n-S nosuch\n" + a + "\n",
		"-i with a bad word":   "-i -S\n-S nosuch\n" + a + "\n",
		"-c too late":          "-S nosuch\n-c\n" + a + "\n",
		"twice":                a + "\n" + a + "\n" + b + "\n",
		"twice, -c":            "-c\n" + a + "\n" + a + "\n" + b + "\n",
		"delete":               a + "\n" + b + "\n-d" + strings.TrimPrefix(a, "-a") + "\n",
		"delete what is not":   "-d" + strings.TrimPrefix(a, "-a") + "\n" + b + "\n",
		"delete by key":        a + "\n-D -k af-test\n" + b + "\n",
		"first":                a + "\n-A" + strings.TrimPrefix(c, "-a") + "\n" + b + "\n",
		"first, and twice":     a + "\n" + b + "\n-A" + strings.TrimPrefix(b, "-a") + "\n",
		"an action gone":       "-a exit,possible -S getppid\n" + a + "\n",
		"its words exchanged":  "-a possible,exit -S getppid\n" + a + "\n",
		"nested":               "-R /etc/audit/audit.rules\n" + a + "\n",
		"no newline":           a,
		"empty":                "",
		"escaped":              strings.Replace(a, "none-a ", `none-a\ b `, 1) + "\n" + strings.Replace(a, "none-a ", `none-a\\b `, 1) + "\n",
		"a comment at the end": a + " # no\n" + b + "\n",
		"settings":             "-r 0\n-f 1\n-b x\n" + a + "\n",
		"two settings":         "-r 0 -f 1\n-l -s\n",
		"list":                 a + "\n-l\n-l -k none\n",
		"version, help":        "-v\n-h\n" + a + "\n",
		"stray":                "foo bar\n" + a + "\n",
		"no such folder":       a + "\n-w /nonexistent/dir/file -p wa -k af-test\n" + b + "\n",
		"long":                 a + strings.Repeat(" ", 3900) + "\n" + b + "\n-S nosuch\n",
		"many fields":          a + strings.Repeat(" -F pid=1", 70) + "\n" + b + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			path := ruleFile(t, text)
			type result struct {
				Rules  string
				Code   int
				Failed []string
			}
			var results []result
			for _, run := range []func() (string, string, int){
				func() (string, string, int) { return stockctl(t, "-R", path) },
				func() (string, string, int) { return ourctl("-R", path) },
			} {
				_, errOut, code := run()
				listed, _, _ := ourctl("-l")
				ourctl("-D")
				r := result{Rules: listed, Code: code}
				for _, m := range failedLine.FindAllStringSubmatch(errOut, -1) {
					r.Failed = append(r.Failed, m[1])
				}
				results = append(results, r)
			}
			// auditctl says to the system log what fails before it first sends a
			// rule, so its list may lack the beginning.
			if n := len(results[1].Failed) - len(results[0].Failed); n > 0 {
				results[1].Failed = slices.Clone(results[1].Failed[n:])
			}
			if len(results[1].Failed) == 0 {
				results[1].Failed = nil
			}
			if diff := cmp.Diff(results[0], results[1]); diff != "" {
				t.Errorf("auditctl (-) and ours (+): %s", diff)
			}
		})
	}
}

func liveRuleFiles(t *testing.T) (*ruleFiles, *bytes.Buffer) {
	t.Helper()
	var said bytes.Buffer
	r := newRuleFiles(Stdio{Out: &said, Err: &said}, "v-test")
	t.Cleanup(r.close)
	dir := t.TempDir()
	r.dir, r.file = filepath.Join(dir, "rules.d"), filepath.Join(dir, "audit.rules")
	if err := os.Mkdir(r.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return r, &said
}

func kernelRules(t *testing.T, c *kernel.Conn) string {
	t.Helper()
	raw, err := c.Rules()
	if err != nil {
		t.Fatal(err)
	}
	held, err := ruleset.Unmarshal(raw)
	if err != nil {
		t.Fatal(err)
	}
	var s strings.Builder
	for _, h := range held {
		s.WriteString(h.Rule.Text(rules.SystemEnv(), rules.TextOptions{}) + "\n")
	}
	return s.String()
}

// TestLiveLoad: rules are added, deleted and moved on the real kernel until it
// holds what the file says in that order, and a load that fails leaves it as it
// was. The stock auditctl lists the same.
func TestLiveLoad(t *testing.T) {
	conn := liveKernel(t)
	r, said := liveRuleFiles(t)
	watched := t.TempDir()
	all := []string{
		getppidRule("always", "/etc/af-none-1", "af-1"), getppidRule("never", "/etc/af-none-2", "af-2"), getppidRule("always", "/etc/af-none-3", "af-3"),
		"-w " + watched + "/file -p wa -k af-4", "-w " + watched + " -p r -k af-5", getppidRule("never", "/etc/af-none-6", "af-6"),
		"-a never,exclude -F pid=4000000 -F msgtype=LOGIN", "-a never,filesystem -F fstype=2147483393 -F key=af-7", "-a never,task -F pid=4000001", "-a never,user -F pid=4000002",
	}
	load := func(list ...string) int {
		said.Reset()
		writeFile(t, filepath.Join(r.dir, "10.rules"), "-D\n"+strings.Join(list, "\n")+"\n")
		return r.augenrules(false, true)
	}
	byList := func(list []string) string { // a kernel lists its lists one after the other
		rank := map[string]int{"user": 0, "task": 1, "exit": 4, "exclude": 5, "filesystem": 6}
		of := func(s string) int {
			if strings.HasPrefix(s, "-w") {
				return 4
			}
			return rank[strings.Fields(strings.Split(s, ",")[1])[0]]
		}
		list = slices.Clone(list)
		slices.SortStableFunc(list, func(a, b string) int { return of(a) - of(b) })
		return strings.Join(list, "\n") + "\n"
	}
	reversed := slices.Clone(all)
	slices.Reverse(reversed)
	for name, list := range map[string][]string{
		"all": all, "reversed": reversed, "some": {all[4], all[1], all[0]}, "rotated": append(slices.Clone(all[3:]), all[:3]...), "one": all[2:3],
	} {
		if code := load(list...); code != 0 {
			t.Fatalf("%s: %d: %s", name, code, said)
		}
		if diff := cmp.Diff(byList(list), kernelRules(t, conn)); diff != "" {
			t.Errorf("%s: %s\n%s", name, diff, said)
		}
		if out, _, code := stockctl(t, "-l"); code != 0 || strings.Count(out, "\n") != len(list) {
			t.Errorf("%s: auditctl -l: %d: %s", name, code, out)
		}
		if code := load(list...); code != 0 || !strings.Contains(said.String(), "0 added, 0 deleted, 0 moved") {
			t.Errorf("%s again: %d: %s", name, code, said)
		}
	}
	if code := load(all...); code != 0 {
		t.Fatal(said)
	}
	before := kernelRules(t, conn)
	fails := []string{all[3], "-w /nonexistent/dir/file -p wa -k af-8", getppidRule("always", "/etc/af-none-9", "af-9")}
	if code := load(fails...); code != 1 || !strings.Contains(said.String(), "10.rules:3: the kernel refused a rule to be added (No such file or directory)") {
		t.Errorf("%d: %s", code, said)
	}
	if diff := cmp.Diff(before, kernelRules(t, conn)); diff != "" {
		t.Errorf("after a load that failed: %s", diff)
	}
	if code := load(append([]string{"-c"}, fails...)...); code != 1 || !strings.Contains(said.String(), "1 line failed") {
		t.Errorf("-c: %d: %s", code, said)
	}
	if diff := cmp.Diff(fails[0]+"\n"+fails[2]+"\n", kernelRules(t, conn)); diff != "" {
		t.Error(diff)
	}
}

// TestLiveNoGap: a program calls getppid all the time while two rule files, of
// which each records those calls under another key and behind other rules, are
// loaded in turn. Each call is recorded.
func TestLiveNoGap(t *testing.T) {
	liveKernel(t)
	const calls = 20000
	r, said := liveRuleFiles(t)
	r.lint.Stat = nil
	exe := filepath.Join(t.TempDir(), "getppid")
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := need.Program(exe, self, 0o700); err != nil {
		t.Fatal(err)
	}
	never, other := getppidRule("never", exe+"x", "af-n"), getppidRule("always", exe+"y", "af-o")
	hide := "-a never,exit -F arch=b64 -S all -F exe=" + exe
	sets := []string{
		strings.Join([]string{"-D", never, getppidRule("always", exe, "af-one"), other, hide}, "\n") + "\n",
		strings.Join([]string{"-D", other, getppidRule("always", exe, "af-two"), hide, never}, "\n") + "\n",
	}
	load := func(i int) {
		said.Reset()
		if code := r.load(ruleset.Parse("10.rules", []byte(sets[i%2]), r.env)); code != 0 {
			t.Fatalf("%d: %s", code, said)
		}
	}
	load(0)
	l, err := kernel.Open(kernel.Config{QueueBytes: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), fmt.Sprintf("AUDITFLEET_TEST_GETPPID=%d", calls))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	loads := 0
	for running := true; running; {
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
			running = false
		default:
			loads++
			load(loads)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for {
		b, err := l.Queue().Take(context.Background())
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for i := range b.Len() {
			if rec := b.Record(i); rec.Type == 1300 && bytes.Contains(rec.Text, []byte("syscall=110 ")) {
				for _, key := range []string{"af-one", "af-two"} {
					if bytes.Contains(rec.Text, []byte(key)) {
						got[key]++
					}
				}
			}
		}
		l.Queue().Release(b)
	}
	for cause, n := range l.Stats().Lost {
		if n != 0 {
			t.Errorf("%d lost by %s", n, cause)
		}
	}
	t.Logf("%v of %d calls recorded over %d loads", got, calls, loads)
	if got["af-one"]+got["af-two"] != calls || loads > 3 && (got["af-one"] == 0 || got["af-two"] == 0) {
		t.Errorf("%v of %d calls recorded over %d loads", got, calls, loads)
	}
}

// TestLiveDuplicateFirst: the kernel takes a second copy of a rule when it is
// prepended; a load straightens that out.
func TestLiveDuplicateFirst(t *testing.T) {
	conn := liveKernel(t)
	r, said := liveRuleFiles(t)
	a, b := getppidRule("always", "/etc/af-none-a", "af-a"), getppidRule("always", "/etc/af-none-b", "af-b")
	for _, line := range []string{a, b, "-A" + strings.TrimPrefix(b, "-a")} {
		if _, errOut, code := ourctl(rules.Args(rules.SplitLine(line))...); code != 0 {
			t.Fatal(errOut)
		}
	}
	if diff := cmp.Diff(b+"\n"+a+"\n"+b+"\n", kernelRules(t, conn)); diff != "" {
		t.Fatal(diff)
	}
	writeFile(t, filepath.Join(r.dir, "10.rules"), "-D\n"+a+"\n"+b+"\n")
	if code := r.augenrules(false, true); code != 0 {
		t.Fatal(said)
	}
	if diff := cmp.Diff(a+"\n"+b+"\n", kernelRules(t, conn)); diff != "" {
		t.Error(diff)
	}
}

// TestLiveAugenrulesLoad: augenrules --load, stock and ours, with files that have
// no rule but narrow ones: the same rules, output and exit code.
func TestLiveAugenrulesLoad(t *testing.T) {
	conn := liveKernel(t)
	script, unshare := need.Stock(t, "augenrules"), need.Stock(t, "unshare")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ours := filepath.Join(t.TempDir(), "augenrules")
	if err := os.Symlink(self, ours); err != nil {
		t.Fatal(err)
	}
	var status kernel.Status
	if status, err = conn.Status(); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"10.rules": fmt.Sprintf("-D\n-b %d\n-f 1\n# c\n", status.BacklogLimit) + getppidRule("always", "/etc/af-none-a", "af-a") + "\n",
		"9.rules":  getppidRule("never", "/etc/af-none-b", "af-b") + "\n",
		"99.rules": "-e 0\n",
	}
	counters := regexp.MustCompile(`(?m)^(lost|backlog|backlog_wait_time_actual) \d+$`)
	type result struct {
		Out, Rules string
		Code       int
	}
	var results []result
	for _, bin := range []string{script, ours} {
		etc := t.TempDir()
		if err := os.Mkdir(filepath.Join(etc, "rules.d"), 0o700); err != nil {
			t.Fatal(err)
		}
		for name, text := range files {
			writeFile(t, filepath.Join(etc, "rules.d", name), text)
		}
		for range 2 {
			var out bytes.Buffer
			cmd := exec.Command(unshare, "-m", "sh", "-c", `mount --bind "$0" /etc/audit && exec "$@"`, etc, bin, "--load")
			cmd.Stdout = &out
			err := cmd.Run()
			if cmd.ProcessState == nil {
				t.Fatal(err)
			}
			text := regexp.MustCompile(`\S*/augenrules`).ReplaceAllString(counters.ReplaceAllString(out.String(), "$1 N"), "$$0")
			results = append(results, result{text, kernelRules(t, conn), cmd.ProcessState.ExitCode()})
		}
		ourctl("-D")
	}
	if diff := cmp.Diff(results[:2], results[2:]); diff != "" {
		t.Errorf("augenrules (-) and ours (+): %s", diff)
	}
	if now, err := conn.Status(); err != nil || now.Enabled != 0 {
		t.Errorf("%+v, %v", now, err)
	}
}

// TestLiveAutrace: the same words and exit codes as stock autrace.
func TestLiveAutrace(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: real programs, one after the other, for some ten seconds")
	}
	conn := liveKernel(t)
	stock := need.Stock(t, "autrace")
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ours := filepath.Join(dir, "autrace")
	if err := os.Symlink(self, ours); err != nil {
		t.Fatal(err)
	}
	pid := regexp.MustCompile(`-p \d+`)
	type result struct {
		Out, Err string
		Code     int
	}
	run := func(bin string, args []string) result {
		var out, errOut bytes.Buffer
		cmd := exec.Command(bin, args...)
		cmd.Stdout, cmd.Stderr = &out, &errOut
		err := cmd.Run()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return result{pid.ReplaceAllString(out.String(), "-p N"), errOut.String(), cmd.ProcessState.ExitCode()}
	}
	compare := func(args ...string) {
		t.Helper()
		want, got := run(stock, args), run(ours, args)
		if !strings.HasPrefix(got.Err, strings.TrimSuffix(want.Err, "\n")) {
			t.Errorf("%q: %q, autrace says %q", args, got.Err, want.Err)
		}
		want.Err, got.Err = "", "" // ours goes on with what to do
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: autrace (-) and ours (+): %s", args, diff)
		}
	}
	compare()
	compare("-h")
	compare("nosuchprogram")
	compare("/bin/nosuchprogram")
	compare("-x", "/bin/true")
	compare("/bin/true")
	compare("/bin/echo", "-r", "a b", "")
	compare("-r", "/bin/false")
	compare("/bin/sh", "-c", "cat; echo $0 $1; kill -9 $$", "zero", "one")
	if _, errOut, code := ourctl(rules.Args(rules.SplitLine(getppidRule("never", "/etc/af-none-a", "af-a")))...); code != 0 {
		t.Fatal(errOut)
	}
	compare("/bin/true")
	if got := run(ours, []string{"--force", "/bin/echo", "x"}); got.Code != 0 || !strings.HasPrefix(got.Out, "x\nCleaning up...\n") {
		t.Errorf("%+v", got)
	}
	if got := kernelRules(t, conn); got != getppidRule("never", "/etc/af-none-a", "af-a")+"\n" {
		t.Errorf("left: %s", got)
	}
	got := run(ours, []string{"--force", "--summary", "--show", "/bin/sh", "-c", "/bin/cat /etc/hostname; :"})
	for _, want := range []string{"type=SYSCALL ", "  execve\n", "  /etc/hostname\n", "  total\n", "'ausearch -i --session "} {
		if got.Code != 0 || !strings.Contains(got.Out, want) {
			t.Errorf("no %q: exit code %d, %s%s", want, got.Code, got.Out, got.Err)
		}
	}
}
