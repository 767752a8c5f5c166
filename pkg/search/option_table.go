package search

import (
	"os"
	"slices"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/tables"
	"github.com/auditfleet/auditfleet/pkg/timespec"
)

// options lists every option; the last of an option's names is the canonical one.
// ParseArgs knows no other options, and completion and the manual pages are built from
// this table.
var options = slices.Concat(whatOptions, whoOptions, resultOptions, inputOptions, ownOptions)

// OptionTable returns the options that ParseArgs accepts. The caller may change the
// slice.
func OptionTable() option.Table { return slices.Clone(options) }

// WordsOf returns the completions for the value of the option called name ("--start").
// pkg/report uses it for options that aureport shares.
func WordsOf(name string) option.Words {
	if o := options.Find(name); o != nil {
		return o.Words
	}
	return option.Words{}
}

var whatOptions = option.Table{
	{Names: []string{"-a", "--event"}, Value: "ID", Brief: "the event with this serial number"},
	{Names: []string{"-c", "--comm"}, Value: "TEXT", Brief: "the command's name"},
	{Names: []string{"-e", "--exit"}, Value: "CODE", Brief: "what the system call returned", Dash: true, Words: option.Words{List: exitWords}},
	{Names: []string{"-f", "--file"}, Value: "TEXT", Brief: "a file or socket", Words: option.Files},
	{Names: []string{"-k", "--key"}, Value: "TEXT", Brief: "a rule's key"},
	{Names: []string{"-m", "--message"}, Value: "TYPE", Brief: "a record of this type", Words: option.Words{List: typeWords, Comma: true}},
	{Names: []string{"-o", "--object"}, Value: "TEXT", Brief: "the object's security context"},
	{Names: []string{"-sc", "--syscall"}, Value: "NAME", Brief: "the system call", Words: option.Words{List: syscallWords}},
	{Names: []string{"-se", "--context"}, Value: "TEXT", Brief: "either security context"},
	{Names: []string{"-su", "--subject"}, Value: "TEXT", Brief: "the subject's security context"},
	{Names: []string{"-sv", "--success"}, Value: "yes|no", Brief: "whether the system call succeeded", Words: option.These("yes", "no")},
	{Names: []string{"-te", "--end"}, Value: "DATE", Brief: "not after", More: 2, Dash: true, Words: option.Words{List: dateWords}},
	{Names: []string{"-ts", "--start"}, Value: "DATE", Brief: "not before", More: 2, Dash: true, Words: option.Words{List: startWords}},
	{Names: []string{"-uu", "--uuid"}, Value: "TEXT", Brief: "the virtual machine's uuid"},
	{Names: []string{"-vm", "--vm-name"}, Value: "TEXT", Brief: "the virtual machine's name"},
	{Names: []string{"-w", "--word"}, Brief: "TEXT is all of the value, not a part of it"},
	{Names: []string{"--arch"}, Value: "CPU", Brief: "the system call's architecture", Words: option.Words{List: archWords}},
}

var whoOptions = option.Table{
	{Names: []string{"-ga", "--gid-all"}, Value: "GROUP", Brief: "either group", Words: groupNames},
	{Names: []string{"-ge", "--gid-effective"}, Value: "GROUP", Brief: "the effective group", Words: groupNames},
	{Names: []string{"-gi", "--gid"}, Value: "GROUP", Brief: "the group", Words: groupNames},
	{Names: []string{"-hn", "--host"}, Value: "TEXT", Brief: "the remote host's name or address"},
	{Names: []string{"-n", "--node"}, Value: "NAME", Brief: "the machine the event is of"},
	{Names: []string{"-p", "--pid"}, Value: "ID", Brief: "the process"},
	{Names: []string{"-pp", "--ppid"}, Value: "ID", Brief: "the parent process"},
	{Names: []string{"-tm", "--terminal"}, Value: "TEXT", Brief: "the terminal"},
	{Names: []string{"-ua", "--uid-all"}, Value: "USER", Brief: "any of the users", Words: userNames},
	{Names: []string{"-ue", "--uid-effective"}, Value: "USER", Brief: "the effective user", Words: userNames},
	{Names: []string{"-ui", "--uid"}, Value: "USER", Brief: "the user", Words: userNames},
	{Names: []string{"-ul", "--loginuid"}, Value: "USER", Brief: "the user that logged in", Dash: true, Words: userNames},
	{Names: []string{"-x", "--executable"}, Value: "TEXT", Brief: "the program", Words: option.Files},
	{Names: []string{"--session"}, Value: "ID", Brief: "the login session", Dash: true},
}

var resultOptions = option.Table{
	{Names: []string{"-h", "--help"}, Brief: "show all options"},
	{Names: []string{"-i", "--interpret"}, Brief: "words for numbers"},
	{Names: []string{"-l", "--line-buffered"}, Brief: "do not hold results back"},
	{Names: []string{"-r", "--raw"}, Brief: "records as they are stored"},
	{Names: []string{"-v", "--version"}, Brief: "show the version"},
	{Names: []string{"--escape"}, Value: "MODE", Brief: "make control characters harmless", Words: option.These(escapeNames[:]...)},
	{Names: []string{"--extra-keys"}, Brief: "csv with the rule's key"},
	{Names: []string{"--extra-labels"}, Brief: "csv with security contexts"},
	{Names: []string{"--extra-obj2"}, Brief: "csv with the second object"},
	{Names: []string{"--extra-time"}, Brief: "csv with parts of the time"},
	{Names: []string{"--format"}, Value: "FORMAT", Brief: "how events are written", Words: option.These(output.FormatNames()...)},
	{Names: []string{"--just-one"}, Brief: "stop after the first"},
}

var inputOptions = option.Table{
	{Names: []string{"-if", "--input"}, Value: "FILE|FOLDER", Brief: "read this instead of the log", Words: option.Files},
	{Names: []string{"--checkpoint"}, Value: "FILE", Brief: "only what was not found the last time", Words: option.Files},
	{Names: []string{"--debug"}, Brief: "say what was skipped"},
	{Names: []string{"--eoe-timeout"}, Value: "SECONDS", Brief: "how long an event may be incomplete"},
	{Names: []string{"--input-logs"}, Brief: "read the log even when stdin is a pipe"},
}

// ownOptions are the options that the stock tool does not have. Those with a value may
// also be written as --limit=5.
var ownOptions = option.Table{
	{Names: []string{"--around"}, Value: "TIME", Brief: "also what else the host did then", Equals: true},
	{Names: []string{"--color"}, Value: "WHEN", Brief: "whether to write in colour", Equals: true, Words: option.These(colorNames[:]...)},
	{Names: []string{"--count"}, Brief: "how many there are, instead of them"},
	{Names: []string{"--csv-rfc4180"}, Brief: "csv with quotes, as RFC 4180 and spreadsheets have it"},
	{Names: []string{"--csv-safe"}, Brief: "csv without cells that a spreadsheet takes for formulas"},
	{Names: []string{"--expression"}, Value: "EXPRESSION", Brief: "an expression as in ausearch-expression(5)", Dash: true, Equals: true},
	{Names: []string{"--field"}, Value: "NAME=VALUE", Brief: "a field has this value", Equals: true, Words: option.Words{List: fieldWords}},
	{Names: []string{"--follow"}, Brief: "what is to come as well"},
	{Names: []string{"--limit"}, Value: "N", Brief: "stop after so many events", Equals: true},
	{Names: []string{"--milliseconds"}, Brief: "line with milliseconds in its times"},
	{Names: []string{"--no-pager"}, Brief: "write to the terminal directly"},
	{Names: []string{"--regex"}, Value: "REGEXP", Brief: "texts are regular expressions, or any field matches this one", Optional: true, Equals: true},
	{Names: []string{"--reverse"}, Brief: "the newest first"},
	{Names: []string{"--tree"}, Brief: "the process tree of each event"},
	{Names: []string{"--with-host"}, Brief: "name the host between events"},
}

var (
	userNames  = option.Words{List: func([]string, string) []string { return accounts("/etc/passwd") }}
	groupNames = option.Words{List: func([]string, string) []string { return accounts("/etc/group") }}
)

// accounts are the names in a file such as /etc/passwd; other sources of accounts
// can be slow and are not asked.
func accounts(file string) (names []string) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(text)) {
		if name, _, ok := strings.Cut(line, ":"); ok && name != "" {
			names = append(names, name)
		}
	}
	return names
}

func typeWords([]string, string) []string {
	names := []string{anyType}
	for _, n := range tables.Types() {
		names = append(names, tables.TypeName(n))
	}
	return names
}

func dateWords([]string, string) []string { return timespec.Names() }

func startWords([]string, string) []string {
	return append(timespec.Names(), checkpointWord)
}

func archWords([]string, string) []string { return append(tables.ArchNames(), "b32", "b64") }

// exitWords are errors as a system call returns them.
func exitWords([]string, string) (names []string) {
	for n := range maxErrno {
		if name, ok := tables.ErrnoName(n); ok {
			names = append(names, "-"+name)
		}
	}
	return names
}

const maxErrno = 4096 // MAX_ERRNO of the kernel, and 1

// syscallWords are the calls of the architecture given before.
func syscallWords(before []string, _ string) []string {
	p := &parser{env: Env{}.withDefaults()}
	name := "b64"
	for i, arg := range before {
		if arg == "--arch" && i+1 < len(before) {
			name = before[i+1]
		}
	}
	arch, ok := p.machineByName(name)
	if !ok {
		arch, _ = tables.ArchByName(p.env.Machine) // none where it is not known
	}
	return syscallNames(arch)
}

func syscallNames(arch uint32) (names []string) {
	for _, n := range tables.Syscalls(arch) {
		if name, ok := tables.SyscallName(arch, n); ok {
			names = append(names, name)
		}
	}
	return names
}

// fieldWords are what can be said of a field: its name, then its value.
func fieldWords(before []string, typed string) (words []string) {
	name, _, valued := strings.Cut(typed, "=")
	if !valued {
		for _, n := range query.FieldNames() {
			words = append(words, n+"=")
		}
		words = append(words, "type=")
		slices.Sort(words)
		return words
	}
	list := map[string]func([]string, string) []string{
		"type": typeWords, "syscall": syscallWords, "arch": archWords, "exit": exitWords,
		"success": option.These("yes", "no").List,
		"uid":     userNames.List, "euid": userNames.List, "auid": userNames.List, "gid": groupNames.List, "egid": groupNames.List,
	}[strings.TrimSuffix(name, "!")]
	if list == nil {
		return nil
	}
	for _, v := range list(before, "") {
		words = append(words, name+"="+v)
	}
	return words
}
