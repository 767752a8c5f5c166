package last

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/nss"
	"github.com/auditfleet/auditfleet/pkg/option"
)

// LoginOptions are the words of `lastlog`, and what the caller adds to them.
type LoginOptions struct {
	HasUser  bool
	User     string
	Stdin    bool
	Input    string // -f
	HasInput bool
	Help     bool
	Extra    map[string][]string // values of the caller's options

	Stock  bool            // by the stock tool's name
	Hosts  bool            // the accounts of many hosts, as the records have them
	Names  interpret.Names // with Hosts
	Locale string          // of dates
}

// LoginOptionTable returns the options of `lastlog`.
func LoginOptionTable() option.Table {
	return option.Table{
		{Names: []string{"-u", "--user"}, Value: "NAME", Brief: "only this account", Dash: true},
		{Names: []string{"--stdin"}, Brief: "the log is standard input"},
		{Names: []string{"-f"}, Value: "FILE", Brief: "the log", Words: option.Files, Dash: true},
		{Names: []string{"-h", "--help"}, Brief: "show all options"},
	}
}

const loginUsageLine = "usage: aulastlog [--stdin] [--user name]"

// LoginUsage is the text of --help.
const LoginUsage = `List the accounts of this machine, and when each last logged in.

  -u, --user NAME    only this account
  -f FILE            read FILE, or the audit.log of a folder with its rotated logs
  --stdin            read standard input, such as of search --raw
  -h, --help         this
`

// ParseLoginArgs reads the words of `lastlog`, as ParseArgs does those of `last`.
func ParseLoginArgs(args []string, stock bool, extra map[string]bool) (*LoginOptions, error) {
	o := &LoginOptions{Stock: stock, Extra: map[string][]string{}}
	for i := 0; i < len(args); i++ {
		word, value, has := args[i], "", i+1 < len(args)
		if has {
			value = args[i+1]
		}
		valued, known := extra[word]
		switch {
		case word == "--stdin":
			o.Stdin = true
			continue
		case !stock && (word == "-h" || word == "--help"):
			o.Help = true
			continue
		case known && !valued:
			o.Extra[word] = append(o.Extra[word], "")
			continue
		case word != "-u" && word != "--user" && !known && (stock || word != "-f"):
			if stock {
				return nil, errors.New(loginUsageLine)
			}
			return nil, fmt.Errorf("unknown option %q", word)
		case !has && stock:
			return nil, errors.New(loginUsageLine)
		case !has:
			return nil, fmt.Errorf("%s needs a value", word)
		}
		i++
		if err := o.set(word, value, known); err != nil {
			return nil, err
		}
	}
	if o.Stdin && o.HasInput {
		return nil, errors.New("-f and --stdin: only one of them can be read")
	}
	return o, nil
}

// set sets the value of an option; extra says that it is the caller's.
func (o *LoginOptions) set(word, value string, extra bool) error {
	if extra {
		o.Extra[word] = append(o.Extra[word], value)
		return nil
	}
	to, was := &o.User, &o.HasUser
	if word == "-f" {
		to, was = &o.Input, &o.HasInput
	}
	if !o.Stock && *was && *to != value { // the stock tool takes the last
		return fmt.Errorf("%s: %w", word, command.Twice(*to, value))
	}
	*to, *was = value, true
	return nil
}

// Failed returns the exit code of an error.
func (o *LoginOptions) Failed() int { return failed(o.Stock) }

// RunLoginFiles lists the last logins in -f, in standard input, or in the local log, and
// returns the exit code. As with the stock tool, what is wrong is said on standard output.
func RunLoginFiles(ctx context.Context, o *LoginOptions, loc *time.Location, local string, std Stdio) int {
	names := nss.New(nss.Config{})
	defer names.Close()
	accounts, err := names.Users()
	if err != nil {
		fmt.Fprintf(std.Err, "NOTE - these are the accounts of /etc/passwd only: %v\n", err)
	}
	if o.HasUser && !slices.ContainsFunc(accounts, func(a nss.Account) bool { return a.Name == o.User }) {
		fmt.Fprintf(std.Out, "Unknown User: %s\n", o.User)
		return 1
	}
	std.noRootNote = true
	records, logs, err := Place{o.Input, o.HasInput, o.Stdin, local}.Open(std)
	if err != nil {
		fmt.Fprintf(std.Out, "Error - %v\n", err)
		return o.Failed()
	}
	defer logs.Close()
	return runLogins(ctx, o, accounts, loc, records, std)
}

// RunLogins lists the last logins in the records of many hosts, whose accounts are those that
// the records name.
func RunLogins(ctx context.Context, o *LoginOptions, loc *time.Location, records Records, std Stdio) int {
	o.Hosts = true
	return runLogins(ctx, o, nil, loc, records, std)
}

func runLogins(ctx context.Context, o *LoginOptions, accounts []nss.Account, loc *time.Location, records Records, std Stdio) int {
	l := NewLogins(o, accounts)
	out := bufio.NewWriter(std.Out)
	err := records(ctx, loginTypes, l.Record)
	if err = errors.Join(err, l.Write(out, loc), out.Flush()); err != nil {
		fmt.Fprintln(std.Err, err)
		return o.Failed()
	}
	return 0
}

// sorted returns the accounts to write: of a machine in its order, of many hosts by host
// and id.
func (l *Logins) sorted() []*lastLogin {
	if !l.o.Hosts {
		return l.list
	}
	list := slices.DeleteFunc(slices.Clone(l.list), func(one *lastLogin) bool { return l.o.HasUser && one.name != l.o.User })
	slices.SortFunc(list, func(a, b *lastLogin) int { return cmp.Or(cmp.Compare(a.node, b.node), cmp.Compare(a.id, b.id)) })
	return list
}
