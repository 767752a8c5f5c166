package search

// Usage is the help text. It lists ausearch's options in this project's words.
const Usage = `usage: search [options]        (all conditions must hold)
 what happened
  -a,  --event ID               the event with this serial number
  -m,  --message TYPE[,TYPE]    a record of one of these types: names, numbers or patterns (USER_*); may be repeated; ALL is no limit
  -k,  --key TEXT               a rule's key
  -sc, --syscall NAME|NUMBER    the system call
       --arch CPU               its architecture: a name as uname -m prints it, b32 or b64; goes before -sc
  -sv, --success yes|no         whether it succeeded
  -e,  --exit NUMBER|ERRNO      what it returned; errors are negative: -13, -EACCES
 when and where
  -ts, --start [DATE] [TIME]    not before; -te, --end [DATE] [TIME]: not after
                                DATE as the locale writes it (LC_TIME) or as 2026-11-28, or now, recent, this-hour, boot,
                                today, yesterday, tomorrow, this-week, week-ago, this-month, this-year; TIME is HH:MM[:SS];
                                or one of 2026-11-28T14:04:05Z, -1h, "2 hours ago" and @SECONDS since 1970
  -n,  --node NAME[,NAME]       the machine: names or patterns (web*); may be repeated
  -hn, --host TEXT              the remote host's name or address
  -tm, --terminal TEXT          the terminal
 who
  -ui, --uid  -ue, --uid-effective  -ul, --loginuid  -ua, --uid-all (any of them)      USER, by name or number
  -gi, --gid  -ge, --gid-effective  -ga, --gid-all (either)                            GROUP, by name or number
  -p,  --pid ID                 the process; -pp, --ppid ID: its parent
       --session ID             the login session
  -c,  --comm TEXT              the command's name
  -x,  --executable TEXT        the program
 on what
  -f,  --file TEXT              a file or socket, or the working directory
  -su, --subject  -o, --object  -se, --context (either)   TEXT of the security context
  -uu, --uuid TEXT              the virtual machine; -vm, --vm-name TEXT
  -w,  --word                   TEXT is all of the value, not a part of it
 more on what (not in ausearch)
       --field NAME=VALUE       a field has VALUE in it (a number: is VALUE); NAME!=VALUE: none has
       --field NAME~REGEXP      a field matches; NAME!~REGEXP: none does; NAME>=NUMBER, >, <=, <: a field is such a number.
                                NAME is a field of any record, "*" for all; a1 is all of an argument, however many pieces it is
                                logged in; file and host are what -f and -hn find; with -i values count in words, too
       --regex                  TEXT above is a regular expression;  --regex REGEXP: any field matches it
       --expression EXPRESSION  as ausearch-expression(5) has them; all these may be repeated
 results
       --format raw|default|interpret|csv|text|json|line        -r, --raw      -i, --interpret (json: in words, too)
                                line is a sentence an event, and what a terminal shows unless a format is asked for
       --milliseconds           line with milliseconds in its times
       --escape raw|tty|shell|shell_quote           --extra-keys, --extra-labels, --extra-obj2, --extra-time (csv)
       --csv-rfc4180            csv as RFC 4180 has it: quotes, CRLF, cells that are no formulas;  --csv-safe: csv as ausearch's,
                                with ' before cells that a spreadsheet would run as formulas (= + - @)
       --just-one               stop after the first;  --limit N: after N
       --reverse                the newest first;  --count: how many there are, instead of them
       --follow                 what is to come as well, from now or from -ts on
       --around TIME            also what else its host did within TIME (30s, 5m) of each
       --tree                   the process tree of each instead: parents and children
       --with-host              name the host between events, also of records without node=
       --color auto|always|never                    --no-pager
  -l,  --line-buffered          do not hold results back
 input
  -if, --input FILE|FOLDER      instead of the log;  --input-logs: the log or store even when stdin is a pipe
       --checkpoint FILE        only what was not found the last time; -ts checkpoint: from that time on
       --eoe-timeout SECONDS    how long an event may be incomplete
       --debug                  say what was skipped
  -h,  --help   -v, --version
`
