package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"unicode/utf8"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/sidepass/sidepass/config"
)

// newLogger returns the process's logger and its level, which can be changed while it runs, and beside it the logger of access and
// decision lines, which the level does not silence: log.access and log.decisions say which of those there are. Every event is logged,
// none is sampled. No call of them is ever given a secret, a token or a request's query.
func newLogger(c config.Log, out io.Writer) (log, requests *zap.Logger, level zap.AtomicLevel) {
	level = zap.NewAtomicLevel()
	setLevel(level, c.Level)
	e := zap.NewProductionEncoderConfig()
	e.TimeKey, e.EncodeTime = "time", zapcore.RFC3339NanoTimeEncoder
	e.EncodeDuration = zapcore.SecondsDurationEncoder
	encoder := zapcore.NewJSONEncoder(e)
	if c.Format == "console" || c.Format == "auto" && isTerminal(out) {
		e.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		e.EncodeDuration = zapcore.StringDurationEncoder
		encoder = zapcore.NewConsoleEncoder(e)
	}
	requests = zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(plainLines{out})), zapcore.DebugLevel))
	return requests.WithOptions(zap.IncreaseLevel(level)), requests, level
}

// plainLines writes entries as one line each, whatever is in them, and without a character that a terminal obeys or that changes the
// order in which text is shown: a path or a claim must not forge a line, or hide one. Such a character becomes the escape \u00XX,
// which in JSON is the same text. An entry is one Write.
type plainLines struct{ io.Writer }

func (w plainLines) Write(entry []byte) (int, error) {
	line, ended := bytes.CutSuffix(entry, []byte("\n"))
	if bytes.IndexFunc(line, commands) < 0 {
		return w.Writer.Write(entry)
	}
	plain := make([]byte, 0, len(entry)+64)
	for _, r := range string(line) {
		if commands(r) {
			plain = fmt.Appendf(plain, `\u%04x`, r)
		} else {
			plain = utf8.AppendRune(plain, r)
		}
	}
	if ended {
		plain = append(plain, '\n')
	}
	if _, err := w.Writer.Write(plain); err != nil {
		return 0, err
	}
	return len(entry), nil
}

// commands says whether a character is one that a terminal or a viewer obeys rather than shows: C0 but for the tab that separates the
// columns of the console format, DEL, C1, line and paragraph separators, and the controls of text direction.
func commands(r rune) bool {
	switch {
	case r == '\t':
		return false
	case r < 0x20, r >= 0x7f && r <= 0x9f:
		return true
	}
	return r == 0x061c || r >= 0x200e && r <= 0x200f || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

func setLevel(level zap.AtomicLevel, name string) {
	if l, err := zapcore.ParseLevel(name); err == nil { // config has validated it
		level.SetLevel(l)
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
