package search

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// The words of a command line that cannot be followed.
func TestRefused(t *testing.T) {
	long := strings.Repeat("x", pathMax)
	env := utcEnv
	env.Extra = map[string]bool{"--store": true}
	env.Uptime = func() (time.Duration, error) { return 0, errors.New("no clock") }
	for _, c := range []struct {
		args string // apart by spaces; _ is an empty one
		want string // the error begins so
	}{
		{"--nonsense", "--nonsense is an unsupported option"},
		{"--limit", "Argument is required for --limit"},
		{"--limit 0", "--limit must be a number from 1 on, was 0"},
		{"--limit=many", "--limit must be a number from 1 on, was many"},
		{"--around 0", "--around must be a time such as 30s or 5m"},
		{"--around 169h", "--around must be a time such as 30s or 5m"},
		{"--around soon", "--around must be a time such as 30s or 5m"},
		{"--color blue", "--color must be auto, always or never, was blue"},
		{"--expression pid", "--expression: "},
		{"--count x", "Argument is NOT required for --count"},
		{"--no-pager x", "Argument is NOT required for --no-pager"},
		{"--regex=(", "--regex: error parsing regexp"},
		{"--regex -k (", "--key: error parsing regexp"},
		{"--field", "Argument is required for --field"},
		{"--field =x", "--field must be NAME=VALUE, NAME~REGEXP or NAME>NUMBER, was =x"},
		{"--field x=", "--field must be NAME=VALUE, NAME~REGEXP or NAME>NUMBER, was x="},
		{"--field x!y", "--field must be NAME=VALUE, NAME~REGEXP or NAME>NUMBER, was x!y"},
		{"--field key~(", "--field: error parsing regexp"},
		{"--field pid=-5", "--field: -5 is no value of it"},
		{"--field pid=x", "--field: "},
		{"--field syscall!=open", "--field: give the system call's number where it is not wanted"},
		{"--follow --reverse", "--follow and --reverse cannot be combined"},
		{"--follow --count", "--follow and --count cannot be combined"},
		{"--follow --around 5", "--follow and --around cannot be combined"},
		{"--follow --tree", "--follow and --tree cannot be combined"},
		{"--tree --around 5", "--tree and --around cannot be combined"},
		{"--tree --count", "--tree and --count cannot be combined"},
		{"--checkpoint f --tree", "--checkpoint with --limit"},
		{"--store", "Argument is required for --store"},
		{"-if _", noInput},
		{"-if " + long, "File name is too longs "},
		{"-f " + long, "File name is too long "},
		{"-m", "Argument is required for -m"},
		{"-m _", "A record type is a name or a number"},
		{"-m NOSUCHTHING", "There is no record type NOSUCHTHING"},
		{"-m AVC,USER_LOGN", "There is no record type USER_LOGN: did you mean USER_LOGIN"},
		{"-m NOSUCH*", "No record type is like NOSUCH*"},
		{"-sc opnat", "Syscall opnat not found: did you mean openat?"},
		{"-sc exec", "Syscall exec not found: did you mean execve"},
		{"-e EACES", "Unknown errno, was EACES: did you mean -EACCES"},
		{"--arch x86-64", "Unknown arch x86-64: did you mean x86_64?"},
		{"-m 99999999999", "Numeric message type conversion error (Numerical result out of range)"},
		{"-a x", "Audit event id must be a numeric value, was x"},
		{"-a 99999999999999999999", "Illegal value for audit event ID"},
		{"--eoe-timeout x", "End of Event Timeout must be a numeric value, was x"},
		{"--eoe-timeout 0", "Illegal value for End of Event Timeout, was 0"},
		{"-p x", "Process id must be a numeric value, was x"},
		{"--session x", "Session id must be a numeric value, was x"},
		{"--session 99999999999999999999", "Error converting 99999999999999999999"},
		{"--session -99999999999", "Error converting -99999999999"},
		{"-ts boot", "Can't read uptime (no clock)"},
		{"-ts 01/02/2003x", "Error parsing start date (01/02/2003x)"},
		{"-ts 13/01/2020", "Invalid start date (13/01/2020). Month, Day, and Year are required."},
		{"-te 01/02/99", "Error - year is 1999"},
		{"-ts today 10:61", "Invalid start time (10:61). Hour, Minute, and Second are required."},
		{"-ts today 10.30", "Invalid start time (10.30). Hour, Minute, and Second are required."},
		{"-ts today 10:30:00x", "Error parsing start time (10:30:00x)"},
		{"--format text --format csv", "Multiple output formats, use only 1"},
		{"--format nice", "Unknown option (nice)"},
		{"--escape nice", "Unknown option (nice)"},
		{"--extra-keys", "--extra options requires format to be csv"},
		{"-r -i", "Conflicting output format -i"},
		{"-i -r", "Conflicting output format --raw"},
		{"-r x", "Argument is NOT required for --raw"},
	} {
		args := strings.Fields(c.args)
		for i := range args {
			args[i] = strings.TrimPrefix(args[i], "_")
		}
		_, err := ParseArgs(args, env)
		var usage *UsageError
		if !errors.As(err, &usage) || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%.80s: %.200v\nwant %s…", c.args, err, c.want)
		}
	}
	if _, err := ParseArgs(nil, env); !errors.Is(err, ErrNoOptions) {
		t.Errorf("no options: %v", err)
	}
}

// Options that the command adds, and those that end the reading.
func TestExtraOptions(t *testing.T) {
	env := utcEnv
	env.Extra = map[string]bool{"--store": true, "--plain": false}
	o, err := ParseArgs([]string{"--store", "-a", "--plain", "--store", "b", "-k", "x"}, env)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string][]string{"--store": {"-a", "b"}, "--plain": {""}}, o.Extra); d != "" {
		t.Error(d)
	}
	if len(o.Query.Terms) != 1 || o.Query.Terms[0].Text != "x" || !slices.Equal(o.Seen, []string{"--key"}) {
		t.Errorf("beside them: %+v, seen %q", o.Query.Terms, o.Seen)
	}
	for _, word := range []string{"-h", "--version"} {
		if o, err := ParseArgs([]string{word, "--nonsense"}, env); err != nil || !o.Help && !o.Version {
			t.Errorf("%s: %+v, %v", word, o, err)
		}
	}
}

// What --regex, --word, --field and --expression find, each with its opposite.
func TestOwnConditions(t *testing.T) {
	log := stamped("SYSCALL", exampleCall)
	for _, c := range []struct {
		args  []string
		finds bool
	}{
		{[]string{"--regex", "^cup.d$"}, true},
		{[]string{"--regex", "^up.d$"}, false},
		{[]string{"-c", "^c.*d$", "--regex"}, true},
		{[]string{"-c", "up.d", "--regex"}, true},
		{[]string{"-c", "up.d", "--regex", "-w"}, false},
		{[]string{"-c", "c.+|nothing", "--regex", "-w"}, true},
		{[]string{"-c", "up"}, true},
		{[]string{"-c", "up", "-w"}, false},
		{[]string{"--field", "comm=up"}, true},
		{[]string{"--field", "comm=up", "-w"}, false},
		{[]string{"--field", "comm!=up"}, false},
		{[]string{"--field", "comm~^cups"}, true},
		{[]string{"--field", "comm!~^cups"}, false},
		{[]string{"--field", "pid=901"}, true},
		{[]string{"--field", "pid!=901"}, false},
		{[]string{"--field", "pid~^90"}, true},
		{[]string{"--field", "pid~^80"}, false},
		{[]string{"--field", "type=SYSCALL"}, true},
		{[]string{"--field", "type=SYSC"}, false},
		{[]string{"--field", "tty=pts"}, true},
		{[]string{"--field", "tty=pts", "-w"}, false},
		{[]string{"--field", "exit=-13"}, true},
		{[]string{"--field", "exit=-EACCES"}, true},
		{[]string{"--field", "exit=-EPERM"}, false},
		{[]string{"--field", "ses=1"}, true},
		{[]string{"--field", "auid=-1"}, false},
		{[]string{"--field", "syscall=openat", "--arch", "x86_64"}, true},
		{[]string{"--field", "syscall!=openat", "--arch", "x86_64"}, false},
		{[]string{"--expression", `pid r= "901"`}, true},
		{[]string{"--expression", `pid r= "90"`}, false},
		{[]string{"--expression", `pid r= "901" && \timestamp >= ts:1800000000.000`}, false},
		{[]string{"--expression", `pid r= "901" && \timestamp >= ts:1700000000.000`}, true},
		{[]string{"--expression", `pid r= "901" && \timestamp < ts:1700000000.000`}, false},
	} {
		env := utcEnv
		env.Machine = "x86_64"
		r := runOurs(env, append([]string{"-if", writeLog(t, log+"\n"), "-r"}, c.args...)...)
		if (r.out == log+"\n") != c.finds || r.code != map[bool]int{true: 0, false: 1}[c.finds] {
			t.Errorf("%q: exit %d, %q %s; found: want %v", c.args, r.code, r.out, r.stderr, c.finds)
		}
	}
}

// How results go to a terminal: under the stock name as the stock tool has it.
func TestScreen(t *testing.T) {
	for _, c := range []struct {
		args      []string
		stock     bool
		form      terminal.Form
		pager     bool
		bare      bool
		escapedTo interpret.Escape // when people watch
	}{
		{[]string{"-k", "x"}, true, terminal.Styled, false, true, interpret.EscapeTTY},
		{[]string{"-k", "x"}, false, terminal.Styled, true, false, interpret.EscapeTTY},
		{[]string{"-i"}, false, terminal.Styled, true, false, interpret.EscapeTTY},
		{[]string{"-i", "--no-pager"}, false, terminal.Styled, false, false, interpret.EscapeTTY},
		{[]string{"--follow"}, false, terminal.Styled, false, false, interpret.EscapeTTY},
		{[]string{"--tree"}, true, 0, false, false, interpret.EscapeTTY},
		{[]string{"--format", "json"}, true, terminal.JSON, false, false, interpret.EscapeTTY},
		{[]string{"-r"}, false, 0, true, false, interpret.EscapeTTY},
		{[]string{"--format", "raw"}, false, 0, true, true, interpret.EscapeTTY},
		{[]string{"--escape", "raw"}, true, terminal.Styled, false, true, interpret.EscapeRaw},
		{[]string{"--escape", "raw"}, false, terminal.Styled, true, false, interpret.EscapeTTY},
		{[]string{"--escape", "shell"}, false, terminal.Styled, true, false, interpret.EscapeShell},
	} {
		o, err := ParseArgs(c.args, utcEnv)
		if err != nil {
			t.Fatal(err)
		}
		got := o.Screen(c.stock)
		if got.Form != c.form || got.Pager != c.pager || got.Bare != c.bare || o.Bare != c.bare {
			t.Errorf("%q, stock name: %v: %+v", c.args, c.stock, got)
		}
		quiet := o.LineBuffered
		if o.ShowOn(true, false); !o.Color || o.LineBuffered != quiet {
			t.Errorf("%q in colour: %+v", c.args, o.Config)
		}
		if o.ShowOn(false, true); o.Color || !o.LineBuffered || o.Escape != c.escapedTo {
			t.Errorf("%q, stock name: %v, watched: %+v", c.args, c.stock, o.Config)
		}
	}
}

// A checkpoint goes through a link of one's own, and to what is no file; what cannot
// be written is said in the stock tool's words, with its exit code.
func TestWriteCheckpoint(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "real"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(target, []byte("old"), 0o600), os.Symlink(target, link)); err != nil {
		t.Fatal(err)
	}
	if err := writeCheckpoint(link, []byte("new")); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(target)
	if info, lerr := os.Lstat(link); err != nil || lerr != nil || string(got) != "new" || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("%q, %v %v", got, err, lerr)
	}
	if err := writeCheckpoint(os.DevNull, []byte("x")); err != nil {
		t.Errorf("to %s: %v", os.DevNull, err)
	}
	for _, path := range []string{dir, filepath.Join(dir, "none", "ck")} {
		var failed *CheckpointError
		if err := writeCheckpoint(path, nil); !errors.As(err, &failed) || failed.Code != codeFailed || !strings.HasPrefix(failed.Error(), "Cannot open checkpoint file - "+path+": ") {
			t.Errorf("%s: %v", path, err)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
