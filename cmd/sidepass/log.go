package main

import (
	"io"
	"os"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/sidepass/sidepass/config"
)

// newLogger returns the process's logger and its level, which can be changed while it runs. Every event is logged,
// none is sampled. No call of it is ever given a secret, a token or a request's query.
func newLogger(c config.Log, out io.Writer) (*zap.Logger, zap.AtomicLevel) {
	level := zap.NewAtomicLevel()
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
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(out)), level)), level
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
