#!/usr/bin/perl
# A client made of Net::SMPP: binds, sends requests one after the other, waits for what is to come, unbinds.
#
#     perl smpp_esme.pl OPTIONS     OPTIONS and output as of smpp_esme.js, without TLS
use strict;
use warnings;
use JSON::PP;
use Net::SMPP;

my %options = (host => '127.0.0.1', port => 2775, bind => 'transceiver', requests => [], receive => 0,
    %{decode_json($ARGV[0])});
my $json = JSON::PP->new->latin1->canonical;
my ($received, @ids) = 0;

sub say_line { syswrite STDOUT, $json->encode({@_}) . "\n" }

sub came {
    my ($session, $pdu) = @_;
    say_line(received => {
        command => 'deliver_sm', source => $pdu->{source_addr}, destination => $pdu->{destination_addr},
        esm_class => $pdu->{esm_class}, text => $pdu->{message_payload} // $pdu->{short_message},
        id => $pdu->{receipted_message_id}, state => defined $pdu->{message_state} ? ord $pdu->{message_state} : undef,
    });
    $received++;
    $session->deliver_sm_resp(seq => $pdu->{seq}, message_id => '');
}

# Read until the answer with this number is there; 0: until enough has been received.
sub wait_for {
    my ($session, $sequence) = @_;
    while ($sequence || $received < $options{receive}) {
        my $pdu = $session->read_pdu or die "the connection is closed\n";
        return $pdu if $pdu->{cmd} & 0x80000000 && $pdu->{seq} == $sequence;
        came($session, $pdu) if $pdu->{cmd} == 0x00000005;
        $session->enquire_link_resp(seq => $pdu->{seq}) if $pdu->{cmd} == 0x00000015;
    }
    return;
}

my $session = Net::SMPP->new_connect($options{host}, port => $options{port}, smpp_version => 0x34, async => 1)
    or die "connect: $!\n";
my $bind = "bind_$options{bind}";
my $answer = wait_for($session, $session->$bind(system_id => $options{system_id}, password => $options{password}));
say_line(bind => $answer->{status});
exit 0 if $answer->{status};

for my $request (@{$options{requests}}) {
    my ($command, $fields) = @$request;
    my %filled = map { my $value = $fields->{$_}; $_ => $value =~ /^\$(\d+)$/ ? $ids[$1] : $value } keys %$fields;
    $answer = wait_for($session, $session->$command(%filled));
    push @ids, $answer->{message_id} // '';
    say_line(response => {
        command => "${command}_resp", status => $answer->{status}, message_id => $ids[-1],
        message_state => $answer->{message_state},
    });
}
wait_for($session, 0);
wait_for($session, $session->unbind);
