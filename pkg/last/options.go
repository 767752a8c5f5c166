package last

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/option"
)

// Options are the words of `last`, and what the caller adds to them.
type Options struct {
	Bad, Debug, Proof, Extract bool
	HasUser                    bool
	User, TTY                  string
	Input                      string // -f
	HasInput                   bool
	Stdin                      bool
	Help                       bool
	Extra                      map[string][]string // values of the caller's options

	Stock   bool            // by the stock tool's name
	Hosts   bool            // say of which host each line is
	Names   interpret.Names // of accounts; nil: this machine's
	Locale  string          // of dates; "": the environment's
	Now     time.Time       // where open sessions end in --proof; zero: now
	records io.Writer       // gets the records of --extract; nil: nobody
}

// OptionTable returns the options of `last`.
func OptionTable() option.Table {
	return option.Table{
		{Names: []string{"--bad"}, Brief: "logins that failed"},
		{Names: []string{"--debug"}, Brief: "say why events count for nothing"},
		{Names: []string{"--extract"}, Brief: "write the records to aulast.log in this folder"},
		{Names: []string{"-f"}, Value: "FILE", Brief: "the log", Words: option.Files, Dash: true},
		{Names: []string{"--proof"}, Brief: "print the serial numbers, and a search for each line's events"},
		{Names: []string{"--stdin"}, Brief: "the log is standard input"},
		{Names: []string{"--tty"}, Value: "TTY", Brief: "only terminals whose names contain this", Dash: true},
		{Names: []string{"--user"}, Value: "NAME", Brief: "only this user", Dash: true},
		{Names: []string{"-h", "--help"}, Brief: "show all options"},
	}
}

// UsageLine is what the stock tool says of its options.
const UsageLine = "usage: aulast [--bad] [--debug] [--stdin] [--proof] [--extract] [-f file] [--user name] [--tty tty]"

// Usage is the text of --help.
const Usage = `List the logins in an audit log, the oldest first: who, where, from where, when, how long.

  --bad              logins that failed, instead
  --user NAME        only this user's; runs of the system are listed all the same
  --tty TTY          only on terminals whose names contain TTY: 0 is tty0 and pts/0
  --proof            print the serial numbers of the events behind each line, and a search that
                     finds what the session did
  --extract          also write the records that were used to aulast.log in this folder
  --debug            say why events count for nothing
  -f FILE            read FILE, or the audit.log of a folder with its rotated logs
  --stdin            read standard input, such as of search --raw
  -h, --help         this
`

// errUsage is returned for words that the stock tool does not take.
var errUsage = errors.New(UsageLine)

// ParseArgs reads the words of `last`. extra are options that the caller adds, and whether
// each has a value. Under the stock tool's name there is no --help, and an error is what
// the stock tool says.
func ParseArgs(args []string, stock bool, extra map[string]bool) (*Options, error) {
	o := &Options{Stock: stock, Extra: map[string][]string{}}
	hasTTY := false
	for i := 0; i < len(args); i++ {
		word := args[i]
		value, has := "", i+1 < len(args)
		if has {
			value = args[i+1]
		}
		switch word {
		case "--bad":
			o.Bad = true
		case "--debug":
			o.Debug = true
		case "--proof":
			o.Proof = true
		case "--extract":
			o.Extract = true
		case "--stdin":
			if o.HasInput {
				return nil, errors.New("file already given")
			}
			o.Stdin = true
		case "-f":
			if o.Stdin {
				return nil, errors.New("stdin already given")
			}
			if err := o.value(&o.Input, &o.HasInput, word, value, has, true); err != nil {
				return nil, err
			}
			i++
		case "--user":
			if err := o.value(&o.User, &o.HasUser, word, value, has, false); err != nil {
				return nil, err
			}
			i++
		case "--tty":
			if err := o.value(&o.TTY, &hasTTY, word, value, has, false); err != nil {
				return nil, err
			}
			i++
		default:
			more, err := o.other(word, value, has, extra)
			if err != nil {
				return nil, err
			}
			i += more
		}
	}
	return o, nil
}

// value sets an option's value. The stock tool takes an option at the end without one for
// none at all.
func (o *Options) value(to *string, was *bool, name, value string, has, again bool) error {
	switch {
	case o.Stock && *was && !again:
		return errUsage
	case o.Stock && !has:
		if again {
			*to, *was = "", false
		}
		return nil
	case !has:
		return fmt.Errorf("%s needs a value", name)
	case !o.Stock && *was && *to != value:
		return fmt.Errorf("%s: %w", name, command.Twice(*to, value))
	}
	*to, *was = value, true
	return nil
}

// other takes a word that is none of the stock tool's, and returns how many more it takes.
func (o *Options) other(word, value string, has bool, extra map[string]bool) (int, error) {
	valued, ok := extra[word]
	switch {
	case !o.Stock && (word == "-h" || word == "--help"):
		o.Help = true
		return 0, nil
	case !ok && o.Stock:
		return 0, errUsage
	case !ok:
		return 0, fmt.Errorf("unknown option %q", word)
	case !valued:
		o.Extra[word] = append(o.Extra[word], "")
		return 0, nil
	case !has:
		return 0, fmt.Errorf("%s needs a value", word)
	}
	o.Extra[word] = append(o.Extra[word], value)
	return 1, nil
}
