package rules

import (
	"slices"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// options is every option, in the spellings of auditctl. The parser knows no other,
// and completion and the manual pages are made of the same.
var options = option.Table{
	{Names: []string{"-a"}, Value: "LIST,ACTION", Brief: "add a rule at the end of a list", Words: option.Words{List: listActionWords}},
	{Names: []string{"-A"}, Value: "LIST,ACTION", Brief: "add a rule at the beginning of a list", Words: option.Words{List: listActionWords}},
	{Names: []string{"-b"}, Value: "RECORDS", Brief: "set how many records may wait in the kernel"},
	{Names: []string{"-c"}, Brief: "go on after errors in a rule file, exit code 1"},
	{Names: []string{"-C"}, Value: "FIELD=FIELD", Brief: "compare two fields", Words: option.Words{List: comparisonWords}},
	{Names: []string{"-d"}, Value: "LIST,ACTION", Brief: "delete a rule", Words: option.Words{List: listActionWords}},
	{Names: []string{"-D"}, Brief: "delete all rules"},
	{Names: []string{"-e"}, Value: "0|1|2", Brief: "switch audit", Words: option.These("0\toff", "1\ton", "2\ton and locked until the next boot")},
	{Names: []string{"-f"}, Value: "0|1|2", Brief: "what happens on failure", Words: option.These("0\tsilent", "1\tprintk", "2\tpanic")},
	{Names: []string{"-F"}, Value: "FIELD=VALUE", Brief: "a condition", Words: option.Words{List: fieldWords}},
	{Names: []string{"-h", "--help"}, Brief: "show all options"},
	{Names: []string{"-i"}, Brief: "go on after errors in a rule file, or words for numbers"},
	{Names: []string{"-k"}, Value: "KEY", Brief: "the key to find the rule's events by"},
	{Names: []string{"-l"}, Brief: "list the rules"},
	{Names: []string{"-m"}, Value: "TEXT", Brief: "send a user message"},
	{Names: []string{"-p"}, Value: "PERMISSIONS", Brief: "what a watch is for", Words: option.These("r\tread", "w\twrite", "x\texecute", "a\tattribute change", "wa\twrite and attribute change", "rwxa\tall")},
	{Names: []string{"-q"}, Value: "MOUNT,SUBTREE", Brief: "watch a subtree as part of a mount's tree"},
	{Names: []string{"-r"}, Value: "RATE", Brief: "set the limit of records a second"},
	{Names: []string{"-R"}, Value: "FILE", Brief: "read rules from a file", Words: option.Files},
	{Names: []string{"-s"}, Brief: "show the status"},
	{Names: []string{"-S"}, Value: "SYSCALL", Brief: "the system calls", Words: option.Words{List: syscallWords, Comma: true}},
	{Names: []string{"-t"}, Brief: "drop watches of trees that are not mounted"},
	{Names: []string{"-v"}, Brief: "show the version"},
	{Names: []string{"-w"}, Value: "PATH", Brief: "watch a path", Words: option.Files},
	{Names: []string{"-W"}, Value: "PATH", Brief: "remove the watch of a path", Words: option.Files},
	{Names: []string{"--backlog_wait_time"}, Value: "TICKS", Brief: "how long programs wait for room in the queue", Equals: true},
	{Names: []string{"--loginuid-immutable"}, Brief: "a login uid can be set once only"},
	{Names: []string{"--reset-lost"}, Brief: "show and reset the count of lost records"},
	{Names: []string{"--reset_backlog_wait_time_actual"}, Brief: "show and reset the time programs waited"},
	{Names: []string{"--signal"}, Value: "SIGNAL", Brief: "send the daemon a signal", Equals: true, Words: option.Words{List: signalWords}},
}

// OptionTable returns the options that ParseArgs accepts. The caller may change the
// slice.
func OptionTable() option.Table { return slices.Clone(options) }

// long is the long name of an option that has one.
func long(o *option.Option) string { return o.Names[len(o.Names)-1] }

// beginning finds the long options that begin so, or the one that is called so.
func beginning(name string) (found []*option.Option) {
	for i := range options {
		o := &options[i]
		switch n := long(o); {
		case n == name:
			return []*option.Option{o}
		case strings.HasPrefix(n, "--") && strings.HasPrefix(n, name):
			found = append(found, o)
		}
	}
	return found
}

func longNames() (names []string) {
	for _, n := range options.Names() {
		if strings.HasPrefix(n, "--") {
			names = append(names, n)
		}
	}
	return names
}

func listActionWords([]string, string) (words []string) {
	for _, a := range []Action{Always, Never} {
		for _, l := range listNames {
			words = append(words, a.String()+","+l.name, l.name+","+a.String())
		}
	}
	return words
}

func signalWords([]string, string) (words []string) {
	for _, s := range signals {
		words = append(words, s[0]+"\t"+s[1], s[1]+"\t"+s[0])
	}
	return words
}

func comparisonWords([]string, string) (words []string) {
	for _, c := range comparisons[1:] {
		for _, op := range []Operator{Equal, NotEqual} {
			words = append(words, c.a.String()+op.String()+c.b.String(), c.b.String()+op.String()+c.a.String())
		}
	}
	return words
}

// archOf is the architecture that the arguments so far name.
func archOf(before []string) uint32 {
	env := SystemEnv()
	arch := env.Arch
	for i, arg := range before {
		name, ok := strings.CutPrefix(arg, "arch=")
		if !ok || i == 0 || before[i-1] != "-F" {
			continue
		}
		if n, known := tables.ArchByName(name); known {
			arch = n
		} else if n, known := tables.Arch32(env.Arch); known && name == "b32" {
			arch = n
		}
	}
	return arch
}

func syscallWords(before []string, _ string) []string {
	words := []string{"all"}
	for i, arg := range before {
		if i > 0 && slices.Contains([]string{"-a", "-A", "-d"}, before[i-1]) && strings.Contains(arg, ListIOUring.String()) {
			return append(words, namesOf(ioUringOps)...)
		}
	}
	arch := archOf(before)
	for _, n := range tables.Syscalls(arch) {
		if name, ok := tables.SyscallName(arch, n); ok {
			words = append(words, name)
		}
	}
	return words
}

// fieldWords are the names of fields, and behind the operator the values there are.
func fieldWords(_ []string, typed string) (words []string) {
	name, _, valued := strings.Cut(typed, "=")
	if !valued {
		for _, f := range fieldNames {
			if f.num != FieldCompare {
				words = append(words, f.name+"=")
			}
		}
		return words
	}
	id, ok := numberOf(fieldNames, strings.TrimRight(name, "!<>&"))
	if !ok {
		return nil
	}
	for _, v := range valueWords(id) {
		words = append(words, name+"="+v)
	}
	return words
}

func valueWords(id FieldID) (words []string) {
	switch id {
	case FieldArch:
		for _, name := range tables.ArchNames() {
			env := SystemEnv()
			if n, ok := tables.ArchByName(name); ok && env.knownArch(n) {
				words = append(words, name)
			}
		}
		return append(words, "b64", "b32")
	case FieldMsgType:
		for _, n := range tables.Types() {
			words = append(words, tables.TypeName(n))
		}
	case FieldExit:
		for n := range 4096 {
			if name, ok := tables.ErrnoName(n); ok {
				words = append(words, "-"+name)
			}
		}
	case FieldPerm:
		return []string{"r", "w", "x", "a", "wa", "rwxa"}
	case FieldFileType:
		return namesOf(fileTypes)
	case FieldFSType:
		return namesOf(fsTypes)
	case FieldSuccess:
		return []string{"0", "1"}
	case FieldAUID:
		return []string{"unset"}
	}
	return words
}
