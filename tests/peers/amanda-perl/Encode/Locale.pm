# Of Encode::Locale what Amanda's tools use, for machines without it: the names of the locale's encodings, here UTF-8.
package Encode::Locale;
use strict;
use warnings;
use Encode::Alias;

Encode::Alias::define_alias($_ => 'UTF-8') for qw(locale locale_fs console_in console_out);

1;
